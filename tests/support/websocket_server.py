# SPDX-License-Identifier: GPL-3.0-or-later
"""A websocket server (RFC 6455) on 127.0.0.1 that sends back what it gets, frame by frame.

Prints its port, and ends with its standard input.
"""

from __future__ import annotations

import base64
import hashlib
import socketserver
import sys
import threading

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
CLOSE = 8


class Session(socketserver.StreamRequestHandler):
    """One client."""

    def handle(self) -> None:
        """Shake hands, and send back each frame until one that closes."""
        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        key = hashlib.sha1(headers[b"sec-websocket-key"] + MAGIC, usedforsecurity=False)
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(key.digest()) + b"\r\n\r\n"
        )
        while self.send_back() != CLOSE:
            pass

    def send_back(self) -> int:
        """Read a frame of up to 125 bytes and send it back, unmasked; return its kind."""
        first, size = self.rfile.read(2)
        mask = self.rfile.read(4)
        text = self.rfile.read(size & 0x7F)
        unmasked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
        self.wfile.write(bytes([first, len(text)]) + unmasked)
        return int(first & 0xF)


with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()
