# SPDX-License-Identifier: GPL-3.0-or-later
"""A loopback address where connecting stalls, as it does on Windows.

    python stall.py [--family ipv6|ipv4] [--port N] [--black-hole]

prints its port and runs until its standard input ends.  A line there is answered by the line
"ready" once a client would stall.

The address has a listener whose backlog is full, so the kernel drops each SYN.  When a client
waits there (a socket in state SYN_SENT, seen in /proc/net/tcp*), the listener is closed: the
client's retransmission, one second after its first SYN, is answered with RST.  Once the client has
its refusal, the listener is set up again for the next one.  With --black-hole it is never closed and no answer comes.  Linux only; no privileges needed.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import socket
import sys
from pathlib import Path

POLL = 0.02  # seconds between looks at the kernel's socket table
SYN_SENT = "02"

FAMILIES = {
    "ipv4": (socket.AF_INET, "127.0.0.1", Path("/proc/net/tcp")),
    "ipv6": (socket.AF_INET6, "::1", Path("/proc/net/tcp6")),
}


class Stall:
    """A listener with a full backlog at one loopback address."""

    def __init__(self, family: str, port: int) -> None:
        """Listen at PORT, 0 for any, of FAMILY; raise OSError if it is taken."""
        self.family, self.host, self.table = FAMILIES[family]
        self.port = port
        self.sockets: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        """Listen and fill the backlog, which then holds its one connection."""
        listener = socket.socket(self.family, socket.SOCK_STREAM)
        self.sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        self.sockets.append(socket.create_connection((self.host, self.port)))

    def close(self) -> None:
        """Close the listener: from now on a SYN is answered with RST."""
        while self.sockets:
            self.sockets.pop().close()

    def waiting(self) -> bool:
        """Return whether a client's SYN to this address is unanswered."""
        suffix = f":{self.port:04X}"
        rows = (line.split() for line in self.table.read_text().splitlines()[1:])
        return any(row[2].endswith(suffix) and row[3] == SYN_SENT for row in rows)

    def serve(self, *, black_hole: bool) -> None:
        """Stall every client until standard input ends."""
        asked = False
        while True:
            if select.select([sys.stdin], [], [], POLL)[0]:
                if not sys.stdin.readline():
                    return
                asked = True
            waiting = not black_hole and self.waiting()
            if self.sockets and waiting:
                self.close()
            elif not self.sockets and not waiting:
                # Another program may have taken the port meanwhile: try again at the next look.
                with contextlib.suppress(OSError):
                    self.open()
            if asked and self.sockets:
                asked = False
                print("ready", flush=True)


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description="Make connecting to a loopback address stall.")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="ipv6")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--black-hole", action="store_true")
    options = parser.parse_args()
    stall = Stall(options.family, options.port)
    print(stall.port, flush=True)
    try:
        stall.serve(black_hole=options.black_hole)
    finally:
        stall.close()


if __name__ == "__main__":
    main()
