# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a server: a thread for every client of a `Listener`, and an end in order."""

from __future__ import annotations

import sys
import threading

from dualstack_epc.net.listener import format_address
from dualstack_epc.net.log import Tally

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    import socket
    from typing import Any, TextIO

    from dualstack_epc.net.listener import Listener

CLOSE_TIMEOUT = 5.0  # seconds that `server_close` waits for connections to end


class Acceptor:
    """What serves each client in a thread of its own.  The methods are called as `socketserver`'s.

    A subclass says in `serve_client` what that is.
    """

    def __init__(self, listener: Listener | None) -> None:
        """Accept from LISTENER, which may also be set later; `server_close` closes it."""
        self.tally = Tally()
        self._listener = listener
        self._stopping = False
        self._stopped = threading.Event()
        self._stopped.set()
        self._connections: set[threading.Thread] = set()

    @property
    def listener(self) -> Listener:
        """The two sockets."""
        if self._listener is None:
            raise RuntimeError("the server is not bound")
        return self._listener

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The pairs of host and port that the server listens at, IPv4 first."""
        return self.listener.addresses

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of address families that were asked for and that this machine lacks."""
        return self.listener.missing

    def print_port(self, stream: TextIO | None = None) -> None:
        """Write the port, as a line, to STREAM, by default standard output."""
        print(self.listener.port, file=stream or sys.stdout, flush=True)

    def serve_forever(self, poll_interval: float = 0.5) -> None:  # noqa: ARG002, socketserver's signature
        """Serve clients until `shutdown` is called from another thread, or `stop`."""
        self._stopped.clear()
        try:
            while not self._stopping:
                self.serve_next(None)
                self.service_actions()
        finally:
            self._stopping = False
            self._stopped.set()

    def service_actions(self) -> None:
        """Do nothing; a subclass may act here after each client is accepted."""

    def serve_next(self, timeout: float | None) -> bool:
        """Begin to serve the next client; return False if none came in TIMEOUT seconds."""
        client = self.listener.accept(timeout)
        if client is None:
            return False
        try:
            self.admit(*client)
        except Exception:  # noqa: BLE001, one client must not end the server
            self.refuse(*client)
        return True

    def admit(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Begin to serve the client at the socket REQUEST."""
        self.process_request(request, client_address)

    def refuse(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Close REQUEST, and log the exception that serving it has raised."""
        self.tally.add(f"{format_address(*client_address)}: not served, {sys.exc_info()[1]!r}")
        request.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve REQUEST, the socket of the client at CLIENT_ADDRESS, in a thread."""
        thread = threading.Thread(
            target=self._serve_connection,
            args=(request, client_address),
            name="dualstack-epc connection",
            daemon=True,
        )
        self._connections.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._connections.discard(thread)
            raise

    def _serve_connection(self, request: Any, client_address: Any) -> None:
        """Serve one client and forget its thread."""
        try:
            self.serve_client(request, client_address)
        finally:
            self._connections.discard(threading.current_thread())

    def serve_client(self, request: Any, client_address: Any) -> None:
        """Serve the client at CLIENT_ADDRESS until it is gone, and close the socket REQUEST."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Make `serve_forever` return, and wait until it has."""
        self.stop()
        self._stopped.wait()

    def stop(self) -> None:
        """Make `serve_forever` return soon; any thread or a signal's handler may call this."""
        self._stopping = True
        self.listener.wake()

    def server_close(self) -> None:
        """Stop listening, close every connection and end the threads.

        A thread is not waited for longer than 5 s.
        """
        if self._listener is not None:
            self._listener.close()
        self.close_clients()
        for thread in list(self._connections):
            if thread is not threading.current_thread():
                thread.join(CLOSE_TIMEOUT)

    def close_clients(self) -> None:
        """Make every `serve_client` return soon."""
        raise NotImplementedError
