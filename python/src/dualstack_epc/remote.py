# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that are python-epc's, or that code for python-epc catches as such.

They are apart as loading python-epc takes longer than all the rest of a sidecar's start, and most
sidecars never meet one.  So `peer` imports this module where it raises.
"""

from __future__ import annotations

from epc.handler import (
    BaseRemoteError,
    CallerUnknown,
    EPCClosed,
    EPCError,
    EPCErrorCallerUnknown,
    ReturnError,
    ReturnErrorCallerUnknown,
)

from dualstack_epc.errors import DualStackError

__all__ = ["BaseRemoteError", "CallerUnknown", "ConnectionClosedError", "EPCError", "ReturnError"]


class ConnectionClosedError(DualStackError, EPCClosed, ConnectionError):  # type: ignore[misc]
    """The connection is gone, and with it every call that had no reply."""


def reply_error(name: str, reason: object, *, known: bool) -> Exception:
    """Return the error that the reply NAME with REASON stands for.

    If the call that it answers is not KNOWN, that is one that python-epc calls CallerUnknown.
    """
    if name == "return-error":
        kind = ReturnError if known else ReturnErrorCallerUnknown
    else:
        kind = EPCError if known else EPCErrorCallerUnknown
    error: Exception = kind(reason)
    return error
