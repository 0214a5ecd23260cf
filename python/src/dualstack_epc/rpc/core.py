# SPDX-License-Identifier: GPL-3.0-or-later
"""EPC servers: what `dualstack-epc serve` runs, and what the drop-in server is made of."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from dualstack_epc.net.acceptor import Acceptor
from dualstack_epc.rpc.dispatch import WORKERS, LazyLoop, WorkerPool
from dualstack_epc.rpc.handler import ClientHandler
from dualstack_epc.rpc.peer import SEND_TIMEOUT

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dualstack_epc.net.listener import Listener
    from dualstack_epc.rpc.loop import EventLoop


STRANGERS = 64  # clients that have not proved themselves
YOUTH = 0.03  # seconds that each of them has at least, however many come


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
        self._strangers: dict[socket.socket, float] = {}  # when they came, the oldest first
        self._strangers_lock = threading.Lock()

    def event_loop(self) -> EventLoop:
        """Return the loop that ``async def`` methods run on."""
        return self._loop.get()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve REQUEST, the socket of the client at CLIENT_ADDRESS, in a thread.

        Where a proof is asked for, the oldest of too many clients without one makes room.
        """
        if not self.token:
            super().process_request(request, client_address)
            return
        self._make_room()
        with self._strangers_lock:
            self._strangers[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.note_proof(request)
            raise

    def _serve_connection(self, request: Any, client_address: Any) -> None:
        """Serve one client and forget it."""
        try:
            super()._serve_connection(request, client_address)
        finally:
            self.note_proof(request)

    def note_proof(self, request: socket.socket) -> None:
        """Note that the client at REQUEST has proved itself, or is gone."""
        with self._strangers_lock:
            self._strangers.pop(request, None)

    def _make_room(self) -> None:
        """Close the oldest client without a proof, if there are as many as may be."""
        with self._strangers_lock:
            if len(self._strangers) < STRANGERS:
                return
            age = time.monotonic() - next(iter(self._strangers.values()))
        if age < YOUTH:
            time.sleep(YOUTH - age)
        with self._strangers_lock:
            if len(self._strangers) < STRANGERS:
                return
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
        self.tally.add(f"closed, {STRANGERS} newer clients have not proved themselves either")
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)
        if os.name == "nt":  # There that does not wake whoever reads.
            oldest.close()

    def close_clients(self) -> None:
        """Close every connection."""
        for handler in list(self.clients):
            handler.close()

    def server_close(self) -> None:
        """Stop listening, close every connection and end the threads.

        A method that is running is not waited for longer than 5 s.
        """
        super().server_close()
        self.tally.flush()
        self._loop.close()
        self.pool.close()


class Server(EPCAcceptor):
    """An EPC server at a `Listener`."""

    def __init__(self, listener: Listener | None, token: str | None = None) -> None:
        """Serve at LISTENER, or with None what is given to a handler.

        With TOKEN a client must prove that it knows it.
        """
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
