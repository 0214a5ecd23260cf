# SPDX-License-Identifier: GPL-3.0-or-later
"""The hello server: the smallest sidecar, a teaching example and a peer for tests.

Whatever bytes a client sends, it is answered ``hello``; ``stop`` closes its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from dualstack_epc.net.listener import Listener, open_listener
from dualstack_epc.net.system import on_signal, stop_waking, wake_by_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPLY = b"hello"
STOP = b"stop"
CHUNK = 1024


class HelloServer:
    """Serves every client of a `Listener` in one thread."""

    def __init__(self, listener: Listener) -> None:
        """Take LISTENER, which the caller closes."""
        self._listener = listener
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._ended = asyncio.Event()
        self._waker, self._wake = socket.socketpair()

    async def start(self) -> None:
        """Begin to accept clients, and to end on a signal that says so."""
        for sock in (self._waker, self._wake):
            sock.setblocking(False)
        wake_by_signals(self._waker)
        on_signal(lambda: None)
        asyncio.get_running_loop().add_reader(self._wake, self._ended.set)
        for sock in self._listener.sockets:
            await asyncio.start_server(self._serve, sock=sock)

    async def wait_until_ended(self) -> None:
        """Wait for a signal, then close every connection."""
        await self._ended.wait()
        asyncio.get_running_loop().remove_reader(self._wake)
        stop_waking()
        self._waker.close()
        self._wake.close()
        tasks = [task for task in self._clients.values() if task]
        for client in self._clients:
            client.transport.abort()
        await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it stops or is gone; the others are not concerned."""
        self._clients[writer] = asyncio.current_task()
        # With no buffer, a client that does not read is not read from either.
        writer.transport.set_write_buffer_limits(0)
        try:
            with contextlib.suppress(OSError):
                while (data := await reader.read(CHUNK)) and data.strip() != STOP:
                    writer.write(REPLY)
                    await writer.drain()
        finally:
            del self._clients[writer]
            writer.close()


async def serve(listener: Listener) -> None:
    """Print the port of LISTENER and serve its clients until a signal ends that."""
    server = HelloServer(listener)
    await server.start()
    print(listener.port, flush=True)
    note = f"dualstack-epc: hello at {listener.describe()}"
    for name in listener.missing:
        note += f"; this machine has no {name} loopback"
    with contextlib.suppress(OSError):  # That a disk is full ends nothing.
        print(note, file=sys.stderr, flush=True)
    await server.wait_until_ended()


def run(family: str, port: int) -> None:
    """Run the hello server until a signal ends it.

    FAMILY and PORT are those of `open_listener`, as are the errors raised.
    """
    with open_listener(family, port) as listener, contextlib.closing(new_loop()) as loop:
        loop.run_until_complete(serve(listener))


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that goes on accepting after a client that was gone at once.

    Windows' own, the proactor, closes a listener whose accept has failed.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), OSError):  # The client's end: nobody's fault.
            loop.default_exception_handler(context)

    loop = asyncio.SelectorEventLoop()
    loop.set_exception_handler(handle)
    return loop
