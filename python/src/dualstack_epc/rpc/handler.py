# SPDX-License-Identifier: GPL-3.0-or-later
"""A server's side of one connection: what its client can call, and calling the client."""

from __future__ import annotations

from dualstack_epc.net.log import logger, one_line
from dualstack_epc.rpc.auth import ServerAuth, reached
from dualstack_epc.rpc.peer import Peer, Service
from dualstack_epc.rpc.running import current
from dualstack_epc.wire.describe import class_name
from dualstack_epc.wire.lisp import Symbol

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from concurrent.futures import Future
    from logging import Logger
    from typing import Any, Protocol

    from dualstack_epc.net.log import Tally
    from dualstack_epc.rpc.dispatch import WorkerPool
    from dualstack_epc.rpc.loop import EventLoop

    class Host(Protocol):
        """What a `ClientHandler` asks of its server."""

        token: str | None
        label: str | None
        tally: Tally
        send_timeout: float
        pool: WorkerPool
        funcs: dict[str, Callable[..., Any]]

        def get_method(self, name: str) -> Callable[..., Any]:
            """Return the method called NAME; raise AttributeError."""

        def event_loop(self) -> EventLoop:
            """Return the loop that ``async def`` methods run on."""

        def note_proof(self, request: socket.socket) -> None:
            """Note that the client at REQUEST has proved itself."""

        def add_client(self, handler: Any) -> None:
            """Note that HANDLER's client is there."""

        def remove_client(self, handler: Any) -> None:
            """Note that HANDLER's client is gone."""


class ClientHandler(Service):
    """A client's connection to `server`, which has those that are open in `clients`.

    Methods of the client are called by `call_sync` or `call_future`, and awaited by `call`.
    """

    def __init__(
        self, request: socket.socket, client_address: tuple[str, int], server: Host
    ) -> None:
        """Serve the client at the socket REQUEST until it is gone, as `socketserver` does."""
        self.request = request
        self.client_address = client_address
        self.server = server
        self.setup()
        try:
            self.handle()
        finally:
            self.finish()

    def setup(self) -> None:
        """Begin to be a client."""
        server = self.server
        self.peer = Peer(
            self.request,
            self,
            server.pool,
            auth=(
                ServerAuth(
                    server.token,
                    server.label or reached(self.request),
                    lambda: server.note_proof(self.request),
                )
                if server.token
                else None
            ),
            send_timeout=server.send_timeout,
        )
        server.add_client(self)

    def handle(self) -> None:
        """Serve the client until it is gone."""
        self.peer.run()

    def finish(self) -> None:
        """Stop being a client."""
        self.server.remove_client(self)

    # What `Peer` asks for.

    def get_method(self, name: str) -> Callable[..., Any]:
        """Return the server's method called NAME; raise AttributeError."""
        method: Callable[..., Any] = self.server.get_method(name)
        return method

    def event_loop(self) -> EventLoop:
        """Return the server's event loop."""
        return self.server.event_loop()

    def describe_methods(self) -> list[Any]:
        """Return the server's methods as lists of name, argument list and documentation."""
        import inspect  # noqa: PLC0415, 3 ms

        return [
            [Symbol(name), argument_list(method), inspect.getdoc(method) or ""]
            for name, method in list(self.server.funcs.items())
        ]

    def on_error(self, error: BaseException) -> None:
        """Log ERROR, and where a method raised it.  The caller gets its reply in any case."""
        try:
            text = repr(error)
        except BaseException:  # noqa: BLE001, what a method raises can be anything
            text = class_name(error)
        self.logger.error("%s%s", where_raised(error), one_line(text))

    def on_refusal(self, reason: str) -> None:
        """Log REASON, for which the connection ends, but not a line for each of many."""
        self.server.tally.add(reason)

    @property
    def logger(self) -> Logger:
        """Where errors are logged."""
        return logger()

    # Calling the client

    def call(self, name: str, *args: Any) -> asyncio.Future[Any]:
        """Call the client's method NAME with ARGS from an ``async def``; await what is returned.

        Await raises what `call_future` says.  Raise RuntimeError where no event loop runs.
        """
        import asyncio  # noqa: PLC0415, its users have loaded it: 40 ms

        loop = asyncio.get_running_loop()
        return asyncio.wrap_future(self.peer.call(name, list(args)), loop=loop)

    def call_future(self, name: str, args: list[Any]) -> Future[Any]:
        """Call the client's method NAME with ARGS; return the future of its value.

        Its exception is `MethodError`, `RefusedError` or `ConnectionClosedError`.
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


def current_client() -> ClientHandler:
    """Return the client that has called the method that runs; raise LookupError outside of one."""
    call = current.get()
    client = call and call.client
    if isinstance(client, ClientHandler):
        return client
    raise LookupError("the caller is no client of a server")


def argument_list(function: Callable[..., Any]) -> list[Symbol]:
    """Return the argument list of FUNCTION as Lisp writes it, empty if it is not known."""
    import inspect  # noqa: PLC0415, 3 ms

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


def where_raised(error: BaseException) -> str:
    """Return where ERROR was raised as a traceback has it, without our frames, or nothing."""
    import traceback  # noqa: PLC0415, only what fails needs it

    own = __file__.rpartition("rpc")[0]
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if own not in each.filename
    ]
    if not frames:
        return ""
    return "Traceback (most recent call last):\n" + "".join(traceback.format_list(frames))
