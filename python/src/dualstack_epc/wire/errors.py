# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with bytes and values, by whose fault it is.

    DualStackError
    ├── ProtocolError            the peer's: its bytes are no EPC
    │   ├── FrameError               a malformed header, or more than the limit: the connection ends
    │   └── ReadError                a payload that is no S-expression, or one that cannot cross
    └── SendError                ours: a value that cannot cross
        └── OversizeError            a frame of more than 16,777,215 bytes

What can go wrong with a call is in `dualstack_epc.rpc.errors`.
"""

from __future__ import annotations


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
