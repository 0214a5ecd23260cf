# SPDX-License-Identifier: GPL-3.0-or-later
"""A server in this process, and clients of it, for the tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from dualstack_epc.drop_in.server import DualStackEPCServer
from dualstack_epc.wire.frames import FrameDecoder, encode_frame
from dualstack_epc.wire.reader import decode_value

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[DualStackEPCServer]:
    """Run a server while the body runs."""
    server = DualStackEPCServer(**options)

    def echo(*args: Any) -> Any:
        """Return the arguments."""
        return args

    def call_back(name: str, *args: Any) -> Any:
        return server.clients[0].call_sync(name, list(args), 10)

    server.register_function(echo)
    server.register_function(call_back)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def port(server: DualStackEPCServer) -> int:
    return server.server_address[1]


class Raw:
    """A client that sends and reads bytes."""

    def __init__(self, server: DualStackEPCServer, family: str = "ipv4") -> None:
        host = "127.0.0.1" if family == "ipv4" else "::1"
        self.sock = socket.create_connection((host, port(server)), timeout=30)
        self._decoder = FrameDecoder()
        self._payloads: list[bytes] = []

    def send(self, text: str | bytes) -> None:
        """Send TEXT as a frame."""
        self.sock.sendall(encode_frame(text.encode() if isinstance(text, str) else text))

    def receive(self) -> Any:
        """Return the next message, or None at the end of the stream."""
        payload = self.receive_payload()
        return None if payload is None else decode_value(payload)

    def receive_payload(self) -> bytes | None:
        """Return the next payload, or None at the end of the stream."""
        while not self._payloads:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._payloads += self._decoder.feed(data)
            assert self._decoder.error is None
        return self._payloads.pop(0)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
