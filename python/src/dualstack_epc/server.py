# SPDX-License-Identifier: GPL-3.0-or-later
"""`DualStackEPCServer`, which takes the place of python-epc's servers.

It is python-epc's class with its parts exchanged: the two sockets are a `Listener`'s, connections
are served by a `Peer` each, and calls run in a `WorkerPool`.
"""

from __future__ import annotations

import inspect
import socketserver
import sys
import threading
from typing import TYPE_CHECKING, Any

from epc.core import EPCCore
from epc.handler import BaseRemoteError, ThreadingEPCHandler
from epc.server import EPCClientManager, ThreadingEPCServer

from dualstack_epc.auth import ServerAuth
from dualstack_epc.dispatch import WORKERS, WorkerPool
from dualstack_epc.errors import ConnectionClosedError
from dualstack_epc.lisp import Symbol
from dualstack_epc.listener import Listener, open_at
from dualstack_epc.peer import SEND_TIMEOUT, Peer, Service, caller

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import TextIO

CLOSE_TIMEOUT = 5.0  # seconds that `server_close` waits for connections to end


class DualStackEPCHandler(ThreadingEPCHandler, Service):  # type: ignore[misc]
    """A client's connection; `server.clients` has those that are open.

    Methods of the client are called by `call_sync`, `call_future` or, with callbacks, `call`.
    """

    server: DualStackEPCServer

    def setup(self) -> None:
        """Begin to be a client."""
        server = self.server
        self.connection = self.request
        self.peer = Peer(
            self.request,
            self,
            server.pool,
            auth=ServerAuth(server.token) if server.token else None,
            send_timeout=server.send_timeout,
        )
        server.add_client(self)

    def handle(self) -> None:
        """Serve the client until it is gone."""
        self.peer.run()

    def finish(self) -> None:
        """Cease to be a client."""
        self.server.remove_client(self)

    # What `Peer` asks for.

    def get_method(self, name: str) -> Callable[..., Any]:
        """Return the server's method called NAME; raise AttributeError."""
        method: Callable[..., Any] = self.server.get_method(name)
        return method

    def describe_methods(self) -> list[Any]:
        """Return the server's methods as lists of name, argument list and documentation."""
        return [
            [Symbol(name), argument_list(method), inspect.getdoc(method) or ""]
            for name, method in list(self.server.funcs.items())
        ]

    def on_error(self, error: BaseException) -> None:
        """Pass ERROR to `handle_error`, and to the server's log and debugger if they are on."""
        if self.handle_error(error):
            return
        server = self.server
        if server.debugger or server.log_traceback:
            self.logger.error("Unexpected error", exc_info=error)
        if server.debugger:
            server.debugger.post_mortem(error.__traceback__)

    def handle_error(self, err: BaseException) -> bool | None:
        """Log ERR; return whether nothing more is to be done about it.

        The caller gets its reply in any case.
        """
        try:
            text = repr(err)
        except BaseException:  # noqa: BLE001, what the peer's call raised can be anything
            text = type(err).__name__
        self.logger.error(text)
        return isinstance(err, (BaseRemoteError, ConnectionClosedError)) or None

    # What python-epc's handlers offer.

    def call(
        self,
        name: str,
        args: list[Any] = [],  # noqa: B006, python-epc's signature
        callback: Callable[[Any], object] | None = None,
        errback: Callable[[Any], object] | None = None,
    ) -> None:
        """Call the client's method NAME with ARGS; CALLBACK or ERRBACK gets what comes of it."""
        self._deliver(self.peer.call(name, args), callback, errback)

    def methods(
        self,
        callback: Callable[[Any], object] | None = None,
        errback: Callable[[Any], object] | None = None,
    ) -> None:
        """Ask for the client's methods; CALLBACK or ERRBACK gets what comes of it."""
        self._deliver(self.peer.methods(), callback, errback)

    def call_future(self, name: str, args: list[Any]) -> Future[Any]:
        """Call the client's method NAME with ARGS; return the future of its value.

        Its exception is `ReturnError`, `EPCError` or `ConnectionClosedError`.
        """
        return self.peer.call(name, args)

    def call_sync(self, name: str, args: list[Any], timeout: float | None = None) -> Any:
        """Call the client's method NAME with ARGS and return its value.

        Raise `CallTimeoutError` after TIMEOUT seconds, or what `call_future` says.
        """
        return self.peer.wait(self.peer.call(name, args), timeout)

    def methods_sync(self, timeout: float | None = None) -> Any:
        """Return the client's methods; raise as `call_sync` does."""
        return self.peer.wait(self.peer.methods(), timeout)

    def close(self) -> None:
        """Close the connection."""
        self.peer.close()

    def _deliver(
        self,
        future: Future[Any],
        callback: Callable[[Any], object] | None,
        errback: Callable[[Any], object] | None,
    ) -> None:
        """Have CALLBACK or ERRBACK called with what comes of FUTURE.

        A worker calls them, as they may call the client again and wait for that.
        """

        def deliver() -> None:
            error = future.exception()
            try:
                if error is None:
                    if callback:
                        callback(future.result())
                elif errback:
                    errback(error)
                else:
                    self.on_error(error)
            except BaseException as problem:  # noqa: BLE001, it is the callback's own
                self.on_error(problem)

        future.add_done_callback(lambda _: self.server.pool.submit(deliver))


class DualStackEPCServer(ThreadingEPCServer):  # type: ignore[misc]
    """An EPC server on 127.0.0.1 and ::1 at one port.

    A drop-in for `epc.server.ThreadingEPCServer`: ``DualStackEPCServer(("localhost", 0))`` listens
    on both families, a literal address on its own.  `server_address` is the first of `addresses`;
    `missing` names the families that this machine lacks.
    """

    daemon_threads = True

    server_address: tuple[str, int]

    def __init__(  # noqa: PLR0913, python-epc's and ours
        self,
        server_address: tuple[str, int] = ("localhost", 0),
        RequestHandlerClass: type[DualStackEPCHandler] = DualStackEPCHandler,  # noqa: N803, python-epc's name
        bind_and_activate: bool = True,
        debugger: Any = None,
        log_traceback: bool = False,
        *,
        family: str = "dual",
        token: str | None = None,
        allow_remote: bool = False,
        listener: Listener | None = None,
        max_workers: int = WORKERS,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """Listen at SERVER_ADDRESS, a pair of host and port, or take LISTENER.

        FAMILY, for the host localhost, is "dual", "ipv4" or "ipv6".  With TOKEN a client must prove
        that it knows it.  A host that is no loopback address needs ALLOW_REMOTE and TOKEN.
        MAX_WORKERS threads run calls; SEND_TIMEOUT is how many seconds a client may not read.
        Raise OSError if the port is taken, ValueError if the address is not allowed.
        """
        socketserver.BaseServer.__init__(self, server_address, RequestHandlerClass)
        EPCClientManager.__init__(self)
        EPCCore.__init__(self, debugger, log_traceback)
        self.token = token
        self.send_timeout = send_timeout
        self.pool = WorkerPool(max_workers)
        self._family = family
        self._allow_remote = allow_remote
        self._listener = listener
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._stopped.set()
        self._connections: set[threading.Thread] = set()
        if listener or bind_and_activate:
            self.server_bind()
            self.server_activate()

    # Listening

    def server_bind(self) -> None:
        """Listen at the address that the server was made for."""
        if self._listener is None:
            self._listener = open_at(
                *self.server_address,
                self._family,
                allow_remote=self._allow_remote and bool(self.token),
            )
        self.server_address = self._listener.addresses[0]

    def server_activate(self) -> None:
        """Do nothing: what is bound listens already, as only that claims a port."""

    @property
    def listener(self) -> Listener:
        """The two sockets."""
        if self._listener is None:
            raise RuntimeError("the server is not bound")
        return self._listener

    @property
    def socket(self) -> socket.socket:
        """The first of the sockets, for code that knows of one only."""
        return self.listener.sockets[0]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The pairs of host and port that the server listens at, IPv4 first."""
        return self.listener.addresses

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of address families that were asked for and that this machine lacks."""
        return self.listener.missing

    def fileno(self) -> int:
        """Return the descriptor of the first socket."""
        return self.socket.fileno()

    def print_port(self, stream: TextIO | None = None) -> None:
        """Write the port, as a line, to STREAM, by default standard output."""
        print(self.server_address[1], file=stream or sys.stdout, flush=True)

    # Serving

    def serve_forever(self, poll_interval: float = 0.5) -> None:  # noqa: ARG002, python-epc's signature
        """Serve clients until `shutdown` is called from another thread."""
        self._stopped.clear()
        try:
            while not self._stopping.is_set():
                self._serve_next(None)
                self.service_actions()
        finally:
            self._stopping.clear()
            self._stopped.set()

    def handle_request(self) -> None:
        """Serve one client, or none if `timeout` passes."""
        if not self._serve_next(self.timeout):
            self.handle_timeout()

    def _serve_next(self, timeout: float | None) -> bool:
        """Begin to serve the next client; return False if none came in TIMEOUT seconds."""
        client = self.listener.accept(timeout)
        if client is None:
            return False
        try:
            if self.verify_request(*client):
                self.process_request(*client)
            else:
                self.shutdown_request(client[0])
        except Exception:  # noqa: BLE001, one client must not end the server
            self.handle_error(*client)
            self.shutdown_request(client[0])
        return True

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
            self.process_request_thread(request, client_address)
        finally:
            self._connections.discard(threading.current_thread())

    def shutdown(self) -> None:
        """Make `serve_forever` return, and wait until it has."""
        self._stopping.set()
        self.listener.wake()
        self._stopped.wait()

    def server_close(self) -> None:
        """Stop listening, close every connection and end the threads.

        A method that is running is not waited for longer than 5 s.
        """
        if self._listener is not None:
            self._listener.close()
        for handler in list(self.clients):
            handler.close()
        for thread in list(self._connections):
            if thread is not threading.current_thread():
                thread.join(CLOSE_TIMEOUT)
        self.pool.close()


def current_client() -> DualStackEPCHandler:
    """Return the client that has called the method that runs; raise LookupError outside of one."""
    client = caller.get()
    if isinstance(client, DualStackEPCHandler):
        return client
    raise LookupError("the caller is no client of a DualStackEPCServer")


def argument_list(function: Callable[..., Any]) -> list[Symbol]:
    """Return the argument list of FUNCTION as Lisp writes it, empty if it is not known."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    names: list[Symbol] = []
    optional = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [Symbol("&rest"), Symbol(parameter.name)]
        elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            if parameter.default is not parameter.empty and not optional:
                optional = True
                names.append(Symbol("&optional"))
            names.append(Symbol(parameter.name))
    return names
