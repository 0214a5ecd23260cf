# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, by whose fault it is.

    DualStackError
    ├── ProtocolError            the peer's: its bytes are no EPC
    │   ├── FrameError               a malformed header, or more than the limit: the connection ends
    │   └── ReadError                a payload that is no S-expression, or one that cannot cross
    ├── SendError                ours: a value that cannot cross
    │   └── OversizeError            a frame of more than 16,777,215 bytes
    ├── ConnectionClosedError    nobody's: the connection is gone (also `epc.handler.EPCClosed`)
    ├── CallTimeoutError         nobody's: no reply in time (also `TimeoutError` and `queue.Empty`)
    └── AuthenticationError      the peer's: it is not who it should be

What a peer's method raised arrives as python-epc's `ReturnError`, and what a peer's EPC refused as
its `EPCError`, both from `epc.handler`.
"""

from __future__ import annotations

import queue

__all__ = [
    "AuthenticationError", "CallTimeoutError", "ConnectionClosedError", "DualStackError",
    "FrameError", "OversizeError", "ProtocolError", "ReadError", "SendError",
]  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dualstack_epc.remote import ConnectionClosedError


def __getattr__(name: str) -> Any:
    """Return `ConnectionClosedError`, which needs python-epc, when it is asked for."""
    if name == "ConnectionClosedError":
        from dualstack_epc import remote  # noqa: PLC0415

        return remote.ConnectionClosedError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class DualStackError(Exception):
    """The root of this package's exceptions."""


class ProtocolError(DualStackError):
    """The peer sent something that is no EPC."""


class FrameError(ProtocolError):
    """A frame is malformed; where the next one begins is unknown."""


class ReadError(ProtocolError):
    """A payload cannot be read as a value."""


class SendError(DualStackError):
    """A value cannot be sent."""


class OversizeError(SendError):
    """A frame would be larger than the protocol allows."""


class AuthenticationError(DualStackError):
    """The peer has not proved itself."""


class CallTimeoutError(DualStackError, TimeoutError, queue.Empty):
    """No reply came in time.  One that comes later is dropped."""
