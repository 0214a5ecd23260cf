# SPDX-License-Identifier: GPL-3.0-or-later
"""`DualStackEPCServer`, a drop-in replacement for python-epc's servers.

It is python-epc's class with its parts exchanged: the two sockets are a `Listener`'s, connections
are served by a `Peer` each, and calls run in a `WorkerPool`.
"""

from __future__ import annotations

import socketserver
from typing import TYPE_CHECKING, Any

from epc.core import EPCCore
from epc.handler import ThreadingEPCHandler
from epc.server import EPCClientManager, ThreadingEPCServer

from dualstack_epc.drop_in import errors
from dualstack_epc.drop_in.lisp import SEXPDATA
from dualstack_epc.net.listener import Listener, open_at
from dualstack_epc.rpc.core import EPCAcceptor
from dualstack_epc.rpc.dispatch import WORKERS
from dualstack_epc.rpc.errors import ConnectionClosedError
from dualstack_epc.rpc.handler import ClientHandler, current_client
from dualstack_epc.rpc.peer import SEND_TIMEOUT
from dualstack_epc.rpc.running import current

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from concurrent.futures import Future
    from logging import Logger

__all__ = ["DualStackEPCHandler", "DualStackEPCServer", "current_client"]


class DualStackEPCHandler(ClientHandler, ThreadingEPCHandler):  # type: ignore[misc]
    """A client's connection; `server.clients` has those that are open.

    Methods of the client are called by `call_sync`, `call_future` or, with callbacks, `call`.
    """

    server: DualStackEPCServer
    types = SEXPDATA

    def setup(self) -> None:
        """Begin to be a client."""
        self.connection = self.request
        super().setup()

    @property
    def logger(self) -> Logger:
        """Where errors are logged: with python-epc's."""
        log: Logger = self.server.logger
        return log

    def on_error(self, error: BaseException) -> None:
        """Pass ERROR to `handle_error`, and to the server's log and debugger if they are on."""
        if self.handle_error(error):
            return
        server = self.server
        if server.debugger or server.log_traceback:
            self.logger.error("Unexpected error", exc_info=error)
        if server.debugger:
            server.debugger.post_mortem(error.__traceback__)

    def reply_error(self, name: str, reason: object) -> Exception:
        """Return the error that the reply NAME, "return-error" or "epc-error", is, for REASON."""
        kind = errors.ReturnError if name == "return-error" else errors.EPCError
        return kind(reason)

    def stray_error(self, name: str, value: object) -> Exception:
        """Return the error that the reply NAME with VALUE answers no call that waits."""
        kind = {
            "return-error": errors.ReturnErrorCallerUnknown,
            "epc-error": errors.EPCErrorCallerUnknown,
        }.get(name, errors.CallerUnknown)
        error: Exception = kind(value)
        return error

    def closed_error(self, reason: str) -> ConnectionClosedError:
        """Return the error that the connection is gone, for REASON."""
        return errors.EPCClosedError(reason)

    def call(
        self,
        name: str,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Call the client's method NAME, as python-epc does, or from an ``async def`` as we do.

        python-epc's arguments are a list ARGS, and CALLBACK and ERRBACK, one of which gets what
        comes of it.
        """
        if (call := current.get()) is not None and not call.threaded:
            return super().call(name, *args)
        self._call_back(name, *args, **options)
        return None

    def _call_back(
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

    def handle_error(self, err: BaseException) -> bool | None:
        """Log ERR; return whether nothing more is to be done about it.

        The caller gets its reply in any case.
        """
        super().on_error(err)
        return isinstance(err, (errors.BaseRemoteError, ConnectionClosedError)) or None


class DualStackEPCServer(EPCAcceptor, ThreadingEPCServer):  # type: ignore[misc]
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
        label: str | None = None,
        allow_remote: bool = False,
        listener: Listener | None = None,
        max_workers: int = WORKERS,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """Listen at SERVER_ADDRESS, a pair of host and port, or take LISTENER.

        FAMILY, for the host localhost, is "dual", "ipv4" or "ipv6".  With TOKEN a client must prove
        that it knows it, and that it has dialled the server's address or knows LABEL.  A host that
        is no loopback address needs ALLOW_REMOTE and TOKEN.
        MAX_WORKERS threads run calls; SEND_TIMEOUT is how many seconds a client may not read.
        Raise OSError if the port is taken, ValueError if the address is not allowed.
        """
        EPCAcceptor.__init__(self, listener, token, max_workers, send_timeout)
        self.label = label
        socketserver.BaseServer.__init__(self, server_address, RequestHandlerClass)
        EPCClientManager.__init__(self)
        EPCCore.__init__(self, debugger, log_traceback)
        self._family = family
        self._allow_remote = allow_remote
        if listener or bind_and_activate:
            self.server_bind()
            self.server_activate()

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
    def socket(self) -> socket.socket:
        """The first of the sockets, for code that knows of one only."""
        return self.listener.sockets[0]

    def fileno(self) -> int:
        """Return the descriptor of the first socket."""
        return self.socket.fileno()

    def handle_request(self) -> None:
        """Serve one client, or none if `timeout` passes."""
        if not self.serve_next(self.timeout):
            self.handle_timeout()

    def admit(self, request: Any, client_address: tuple[str, int]) -> None:
        """Begin to serve the client at the socket REQUEST, if `verify_request` lets it in."""
        if self.verify_request(request, client_address):
            self.process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def refuse(self, request: Any, client_address: tuple[str, int]) -> None:
        """Close REQUEST, as serving it has raised an exception."""
        self.handle_error(request, client_address)
        self.shutdown_request(request)

    def serve_client(self, request: Any, client_address: tuple[str, int]) -> None:
        """Serve the client at CLIENT_ADDRESS until it is gone, and close the socket REQUEST."""
        self.process_request_thread(request, client_address)
