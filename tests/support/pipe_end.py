# SPDX-License-Identifier: GPL-3.0-or-later
"""One of two ends that are joined: what it reads the other prints, and both end together.

``python pipe_end.py`` is the first, and begins with a line, its port; ``python pipe_end.py PORT``
is the second.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

if sys.platform == "win32":
    import msvcrt

if TYPE_CHECKING:
    from collections.abc import Callable


def copy(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
    """WRITE what READ gives, until there is no more."""
    with contextlib.suppress(OSError):
        while data := read(65536):
            write(data)


def print_all(data: bytes) -> None:
    """Print DATA, all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def join(port: str | None) -> socket.socket:
    """Return the connection to the other end, which listens on PORT if that is given."""
    if port:
        return socket.create_connection(("127.0.0.1", int(port)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print_all(b"%d\n" % server.getsockname()[1])
        return server.accept()[0]


def main(port: str | None = None) -> None:
    """Be the end that joins the one on PORT, or the first one without."""
    if sys.platform == "win32":
        for descriptor in (0, 1):
            msvcrt.setmode(descriptor, os.O_BINARY)
    connection = join(port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def print_what_comes() -> None:
        copy(connection.recv, print_all)
        os._exit(0)

    printer = threading.Thread(target=print_what_comes, daemon=True)
    printer.start()
    copy(lambda count: os.read(0, count), connection.sendall)
    connection.shutdown(socket.SHUT_WR)
    printer.join()  # The other end still reads what was sent, and ends then.


if __name__ == "__main__":
    main(*sys.argv[1:])
