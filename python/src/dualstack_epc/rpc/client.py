# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of EPC servers, over localhost's two addresses.

with connect(port=9999) as client:
    client.call_sync("echo", [1, 2, 3], timeout=5)
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from dualstack_epc.net.dial import dial
from dualstack_epc.rpc.auth import authenticate, dialled
from dualstack_epc.rpc.dispatch import LazyLoop, WorkerPool
from dualstack_epc.rpc.peer import AUTH_FRAME_LIMIT, Peer, Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType

    from dualstack_epc.rpc.loop import EventLoop


class Client(Service):
    """A connection to an EPC server, made by `connect`; a context manager that closes it.

    The server may call the functions in the dict `functions`.
    """

    def __init__(self, sock: socket.socket, *, begins: bool = True) -> None:
        """Use SOCK, which is connected.

        BEGINS is whether to tell the server what this is; if not, it must prove itself first.
        """
        self.functions: dict[str, Callable[..., Any]] = {}
        self._socket = sock
        self._pool = WorkerPool()
        self._loop = LazyLoop()
        self._peer = Peer(
            sock, self, self._pool, begins=begins, limit=None if begins else AUTH_FRAME_LIMIT
        )
        self._reader = threading.Thread(
            target=self._peer.run, name="dualstack-epc client", daemon=True
        )
        self._reader.start()

    def get_method(self, name: str) -> Callable[..., Any]:
        """Return the function that the server may call by NAME."""
        try:
            return self.functions[name]
        except KeyError:
            raise AttributeError(name) from None

    def event_loop(self) -> EventLoop:
        """Return the loop that ``async def`` functions run on."""
        return self._loop.get()

    def trust(self) -> None:
        """Take messages of any size: the server has proved itself."""
        self._peer.trust()

    def meet(self) -> None:
        """Note that the server is one of this package."""
        self._peer.meet()

    def call_future(self, name: str, args: list[Any]) -> Future[Any]:
        """Call the server's method NAME with ARGS; return the future of its value.

        Its exception is `MethodError`, `RefusedError` or `ConnectionClosedError`.
        """
        return self._peer.call(name, args)

    def call_sync(self, name: str, args: list[Any], timeout: float | None = None) -> Any:
        """Call the server's method NAME with ARGS and return its value.

        Raise `CallTimeoutError` after TIMEOUT seconds, or what `call_future` says.
        """
        return self._peer.wait(self._peer.call(name, args), timeout)

    def methods_sync(self, timeout: float | None = None) -> Any:
        """Return lists of name, argument list and documentation of the server's methods."""
        return self._peer.wait(self._peer.methods(), timeout)

    def close(self) -> None:
        """Close the connection; calls that wait for a reply end at once."""
        self._peer.close()
        if threading.current_thread() is not self._reader:
            self._reader.join()
        self._socket.close()
        self._loop.close()
        self._pool.close()

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()


def connect(
    host: str = "localhost",
    port: int = 0,
    *,
    token: str | None = None,
    label: str | None = None,
    timeout: float = 10,
) -> Client:
    """Return a `Client` of the server at HOST and PORT, and with TOKEN prove to know it.

    The proof holds for the address that is dialled; where the server is reached at another, as by a
    forwarded port, both ends give the same LABEL.

    For localhost both loopback addresses are tried, 127.0.0.1 first.  TIMEOUT, in seconds, is for
    each step.  Raise OSError if nobody answers, `AuthenticationError`, `CallTimeoutError`.
    """
    if host == "localhost":
        sock = dial(port, timeout)
    else:
        sock = socket.create_connection((host, port), timeout)
        sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = Client(sock, begins=not token)
    if token:
        try:
            place = label or dialled(sock)
            authenticate(
                token,
                place,
                lambda name, args: client.call_sync(name, args, timeout),
                client.trust,
            )
            client.meet()
        except BaseException:
            client.close()
            raise
    return client
