# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that code for python-epc catches by its names, and that are ours as well."""

from __future__ import annotations

from epc.handler import (
    BaseRemoteError,
    CallerUnknown,
    EPCClosed,
    EPCErrorCallerUnknown,
    ReturnErrorCallerUnknown,
)
from epc.handler import EPCError as PythonEPCError
from epc.handler import ReturnError as PythonReturnError

from dualstack_epc.rpc.errors import ConnectionClosedError, MethodError, RefusedError

__all__ = [
    "BaseRemoteError", "CallerUnknown", "EPCClosedError", "EPCError", "EPCErrorCallerUnknown",
    "ReturnError", "ReturnErrorCallerUnknown",
]  # fmt: skip


class ReturnError(MethodError, PythonReturnError):  # type: ignore[misc]
    """The peer's method failed."""


class EPCError(RefusedError, PythonEPCError):  # type: ignore[misc]
    """The peer did not take the call for one that it can run."""


class EPCClosedError(ConnectionClosedError, EPCClosed):  # type: ignore[misc]
    """The connection is gone, and with it every call that had no reply."""
