# SPDX-License-Identifier: GPL-3.0-or-later
"""A JSON-RPC server on TCP, as a peer for Emacs's jsonrpc.el: prints its port, and serves.

Messages are framed as in the Language Server Protocol.  The methods are those of the EPC servers
that it is compared with.
"""

from __future__ import annotations

import json
import socketserver
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [[i, f"row {i}", ["ok", f"c{i}"], i * 1.5] for i in range(20_000)]
METHODS: dict[str, Callable[[Any], Any]] = {
    "echo": lambda args: args,
    "rows": lambda _: ROWS,
    "count": lambda args: len(args[0]),
    "text": lambda args: "x" * args[0],
}


class Handler(socketserver.StreamRequestHandler):
    """Serves one client."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer requests until the client is gone."""
        while header := self.rfile.readline():
            self.rfile.readline()
            request = json.loads(self.rfile.read(int(header.split(b":")[1])))
            self.answer(request["id"], METHODS[request["method"]](request["params"]))

    def answer(self, number: int, result: Any) -> None:
        """Send RESULT as the reply to the request NUMBER."""
        body = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()
        self.request.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


class Server(socketserver.ThreadingTCPServer):
    """Serves each client in a thread."""

    daemon_threads = True


with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
