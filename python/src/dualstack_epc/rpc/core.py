# SPDX-License-Identifier: GPL-3.0-or-later
"""EPC servers: what `dualstack-epc serve` runs, and what the drop-in server is made of."""

from __future__ import annotations

from dualstack_epc.net.acceptor import Acceptor
from dualstack_epc.rpc.dispatch import WORKERS, LazyLoop, WorkerPool
from dualstack_epc.rpc.handler import ClientHandler
from dualstack_epc.rpc.peer import SEND_TIMEOUT

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from dualstack_epc.net.listener import Listener
    from dualstack_epc.rpc.loop import EventLoop


class EPCAcceptor(Acceptor):
    """What every EPC server has: its clients, and the threads that run their calls."""

    def __init__(
        self,
        listener: Listener | None,
        token: str | None = None,
        max_workers: int = WORKERS,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """Accept from LISTENER, which may also be set later; `server_close` closes it.

        With TOKEN a client must prove that it knows it.  MAX_WORKERS threads run calls;
        SEND_TIMEOUT is how many seconds a client may not read.
        """
        super().__init__(listener)
        self.token = token
        self.label: str | None = None  # what proofs are bound to instead of the address
        self.send_timeout = send_timeout
        self.pool = WorkerPool(max_workers)
        self._loop = LazyLoop()
        self.clients: list[ClientHandler] = []

    def event_loop(self) -> EventLoop:
        """Return the loop that ``async def`` methods run on."""
        return self._loop.get()

    def close_clients(self) -> None:
        """Close every connection."""
        for handler in list(self.clients):
            handler.close()

    def server_close(self) -> None:
        """Stop listening, close every connection and end the threads.

        A method that is running is not waited for longer than 5 s.
        """
        super().server_close()
        self._loop.close()
        self.pool.close()


class Server(EPCAcceptor):
    """An EPC server at a `Listener`."""

    def __init__(self, listener: Listener, token: str | None = None) -> None:
        """Serve at LISTENER; with TOKEN a client must prove that it knows it."""
        super().__init__(listener, token)
        self.funcs: dict[str, Callable[..., Any]] = {}

    def register_function(self, function: Callable[..., Any], name: str) -> None:
        """Let clients call FUNCTION by NAME."""
        self.funcs[name] = function

    def get_method(self, name: str) -> Callable[..., Any]:
        """Return the function called NAME; raise AttributeError."""
        try:
            return self.funcs[name]
        except KeyError:
            raise AttributeError(name) from None

    def add_client(self, handler: ClientHandler) -> None:
        """Note that HANDLER's client is there."""
        self.clients.append(handler)

    def remove_client(self, handler: ClientHandler) -> None:
        """Note that HANDLER's client is gone."""
        self.clients.remove(handler)

    def serve_client(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Serve the client at CLIENT_ADDRESS until it is gone, and close the socket REQUEST."""
        with request:
            ClientHandler(request, client_address, self)
