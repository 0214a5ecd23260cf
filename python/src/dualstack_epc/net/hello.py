# SPDX-License-Identifier: GPL-3.0-or-later
"""The hello server: the smallest sidecar, a teaching example and a peer for tests.

Whatever bytes a client sends, it is answered ``hello``; ``stop`` closes its connection.
"""

from __future__ import annotations

import contextlib
import sys

from dualstack_epc.net.acceptor import Acceptor
from dualstack_epc.net.listener import open_listener
from dualstack_epc.net.system import on_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

REPLY = b"hello"
STOP = b"stop"
CHUNK = 1024


class HelloServer(Acceptor):
    """Serves every client in a thread.  The end of the process closes their connections."""

    def serve_client(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # noqa: ARG002, Acceptor's signature
        """Answer one client until it stops or is gone; the others are not concerned."""
        with request, contextlib.suppress(OSError):
            while (data := request.recv(CHUNK)) and data.strip() != STOP:
                request.sendall(REPLY)


def run(family: str, port: int) -> None:
    """Run the hello server until a signal ends it.

    FAMILY and PORT are those of `open_listener`, as are the errors raised.
    """
    with open_listener(family, port) as listener:
        server = HelloServer(listener)
        listener.wake_by_signals()
        on_signal(server.stop)
        server.print_port()
        with contextlib.suppress(OSError):  # That a disk is full ends nothing.
            print(listener.announce("hello"), file=sys.stderr, flush=True)
        server.serve_forever()
