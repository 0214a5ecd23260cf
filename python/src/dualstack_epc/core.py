# SPDX-License-Identifier: GPL-3.0-or-later
"""The EPC server itself: what `dualstack-epc serve` runs, which does not load python-epc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualstack_epc.acceptor import Acceptor
from dualstack_epc.handler import ClientHandler

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from dualstack_epc.listener import Listener


class CoreServer(Acceptor):
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
