# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy that does what networks do at their worst: fault_proxy.py PORT SEED.

Forwards connections to PORT of 127.0.0.1 and prints its own port.  Each connection draws one of
`FAULTS` from a generator seeded with SEED, applied to what the server says.  It ends when its
standard input does.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = (
    "none", "split", "delay", "coalesce", "truncate", "corrupt", "reset", "stall", "half-close",
)  # fmt: skip


def pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    """Forward from SOURCE to SINK what CHANGE makes of it, until either ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            sink.sendall(change(data))
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    """Close SOCK with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def make_fault(  # noqa: C901, a table of faults
    fault: str, rng: random.Random, client: socket.socket
) -> Callable[[bytes], bytes]:
    """Return the function that applies FAULT to what is sent to CLIENT."""
    left = rng.randrange(1, 400)  # bytes until the fault, where it comes once

    def change(data: bytes) -> bytes:
        nonlocal left
        if fault == "split":
            for byte in data:
                client.sendall(bytes([byte]))
            return b""
        if fault == "delay":
            time.sleep(0.002)
        elif fault == "coalesce":
            time.sleep(0.02)
        elif fault != "none":
            left -= len(data)
            if left <= 0:
                return strike(data)
        return data

    def strike(data: bytes) -> bytes:
        if fault == "corrupt":
            return data[:3] + b"\xff" + data[4:]
        if fault == "stall":
            time.sleep(0.7)
            return data
        client.sendall(data[: len(data) // 2])
        if fault == "reset":
            reset(client)
        elif fault == "half-close":
            client.shutdown(socket.SHUT_WR)
        raise OSError(fault)

    return change


def serve(client: socket.socket, port: int, rng: random.Random) -> None:
    """Forward one connection."""
    fault = rng.choice(FAULTS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        up = threading.Thread(target=pump, args=(client, server, bytes), daemon=True)
        up.start()
        pump(server, client, make_fault(fault, rng, client))
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        up.join(1)


def main() -> None:
    """Forward until standard input ends."""
    port, seed = map(int, sys.argv[1:])
    rng = random.Random(seed)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            own = random.Random(rng.random())
            threading.Thread(target=serve, args=(client, port, own), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
