# SPDX-License-Identifier: GPL-3.0-or-later
"""What can become of a call other than its value.

    DualStackError
    ├── RemoteError              the peer's answer is an error
    │   ├── MethodError              the method raised it
    │   ├── RefusedError             there is no such method, or the call is no EPC
    │   └── StrayReplyError          it answers no call that waits; this is logged only
    ├── ConnectionClosedError    the connection is gone (also `ConnectionError`)
    ├── CallCancelledError       the method that runs was cancelled by its caller
    ├── CallTimeoutError         no reply in time (also `TimeoutError` and `queue.Empty`)
    └── AuthenticationError      the peer is not who it should be

In a `DualStackEPCServer` the first three are python-epc's exceptions as well; see
`dualstack_epc.drop_in.errors`.
"""

from __future__ import annotations

from dualstack_epc.net.light import Empty
from dualstack_epc.wire.errors import DualStackError


class RemoteError(DualStackError):
    """The peer answered a call with an error.  The first argument is what it said."""


class MethodError(RemoteError):
    """The peer's method failed."""


class RefusedError(RemoteError):
    """The peer did not take the call for one that it can run."""


class StrayReplyError(RemoteError):
    """A reply answers no call that waits: it comes too late, or twice."""


class ConnectionClosedError(DualStackError, ConnectionError):
    """The connection is gone, and with it every call that had no reply."""


class AuthenticationError(DualStackError):
    """The peer has not proved itself."""


class CallCancelledError(DualStackError):
    """The method in which this is raised was cancelled by its caller."""


class CallTimeoutError(DualStackError, TimeoutError, Empty):
    """No reply came in time.  One that comes later is dropped."""
