# SPDX-License-Identifier: GPL-3.0-or-later
"""A long way to a port of this machine: what is sent arrives later, in each direction.

It needs no kernel that can delay packets, and no root.  ``python far.py PORT SECONDS`` prints another
port, which leads to PORT, and its own process number; it ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

CHUNK = 65536


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float) -> None:
    """Write to SINK what SOURCE has, DELAY seconds later; more can be on the way meanwhile."""
    loop = asyncio.get_running_loop()
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def arrive() -> None:
        while True:
            due, data = await way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                return
            sink.write(data)
            await sink.drain()

    arriving = asyncio.create_task(arrive())
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            await way.put((loop.time() + delay, data))
    await way.put((loop.time() + delay, b""))
    with contextlib.suppress(OSError):
        await arriving
        sink.close()


async def _serve(port: int, delay: float, ready: list[int], told: threading.Event) -> None:
    """Listen, tell READY at which port, and lead to PORT, until this process ends."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            _carry(reader, inner_writer, delay), _carry(inner_reader, writer, delay)
        )

    server = await asyncio.start_server(lead, "127.0.0.1", 0)
    ready.append(server.sockets[0].getsockname()[1])
    told.set()
    await server.serve_forever()


def lead_to(port: int, delay: float) -> int:
    """Return a port that leads to PORT, DELAY seconds away, as long as this process runs."""
    ready: list[int] = []
    told = threading.Event()
    threading.Thread(
        target=lambda: asyncio.run(_serve(port, delay, ready, told)), daemon=True
    ).start()
    told.wait(10)
    return ready[0]


if __name__ == "__main__":
    print(lead_to(int(sys.argv[1]), float(sys.argv[2])), os.getpid(), flush=True)
    sys.stdin.read()
