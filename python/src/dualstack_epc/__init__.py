# SPDX-License-Identifier: GPL-3.0-or-later
"""EPC between Emacs and Python, over both of localhost's addresses.

The names in `__all__` are public, and are loaded when they are first used (PEP 562).  Everything
else in this package is private.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "CallCancelledError",
    "CallTimeoutError",
    "Client",
    "CloseAfter",
    "ConnectionClosedError",
    "Cons",
    "DualStackEPCHandler",
    "DualStackEPCServer",
    "DualStackError",
    "FamilyMissingError",
    "FrameError",
    "HashTable",
    "Listener",
    "MethodError",
    "OversizeError",
    "PortInUseError",
    "ProtocolError",
    "Quoted",
    "ReadError",
    "RefusedError",
    "RemoteError",
    "RunningCall",
    "SendError",
    "Server",
    "Symbol",
    "Vector",
    "connect",
    "current_call",
    "current_client",
    "dial",
    "open_listener",
    "register_converter",
]  # fmt: skip

_NAMES = {
    "drop_in.server": ("DualStackEPCHandler", "DualStackEPCServer"),
    "net.dial": ("dial",),
    "net.listener": ("FamilyMissingError", "Listener", "PortInUseError", "open_listener"),
    "rpc.answers": ("CloseAfter",),
    "rpc.client": ("Client", "connect"),
    "rpc.core": ("Server",),
    "rpc.errors": (
        "AuthenticationError", "CallCancelledError", "CallTimeoutError", "ConnectionClosedError",
        "MethodError", "RefusedError", "RemoteError",
    ),
    "rpc.handler": ("current_client",),
    "rpc.running": ("RunningCall", "current_call"),
    "wire.converters": ("register_converter",),
    "wire.errors": (
        "DualStackError", "FrameError", "OversizeError", "ProtocolError", "ReadError", "SendError",
    ),
    "wire.lisp": ("Cons", "HashTable", "Quoted", "Symbol", "Vector"),
}  # fmt: skip

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from dualstack_epc.drop_in.server import DualStackEPCHandler, DualStackEPCServer
    from dualstack_epc.net.dial import dial
    from dualstack_epc.net.listener import (
        FamilyMissingError,
        Listener,
        PortInUseError,
        open_listener,
    )
    from dualstack_epc.rpc.answers import CloseAfter
    from dualstack_epc.rpc.client import Client, connect
    from dualstack_epc.rpc.core import Server
    from dualstack_epc.rpc.errors import (
        AuthenticationError,
        CallCancelledError,
        CallTimeoutError,
        ConnectionClosedError,
        MethodError,
        RefusedError,
        RemoteError,
    )
    from dualstack_epc.rpc.handler import current_client
    from dualstack_epc.rpc.running import RunningCall, current_call
    from dualstack_epc.wire.converters import register_converter
    from dualstack_epc.wire.errors import (
        DualStackError,
        FrameError,
        OversizeError,
        ProtocolError,
        ReadError,
        SendError,
    )
    from dualstack_epc.wire.lisp import Cons, HashTable, Quoted, Symbol, Vector

if not TYPE_CHECKING:  # A checker that saw this would take any name for public.

    def __getattr__(name: str) -> object:
        """Return the public object called NAME, whose module is loaded for it."""
        for module, names in _NAMES.items():
            if name in names:
                from importlib import import_module  # noqa: PLC0415, 0.5 ms

                value = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, loaded or not, and the module's own."""
    return sorted({*globals(), *__all__})
