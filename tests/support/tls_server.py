# SPDX-License-Identifier: GPL-3.0-or-later
"""A TLS server that greets its clients and echoes their lines.

    python tls_server.py FAMILY CERTIFICATE KEY

FAMILY is ipv4 or ipv6.  It prints its port and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

HOSTS = {"ipv4": "127.0.0.1", "ipv6": "::1"}


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet one client and echo its lines."""
    with contextlib.suppress(OSError):
        writer.write(b"* ready\n")
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def main(family: str, certificate: str, key: str) -> None:
    """Serve until standard input ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve_client, HOSTS[family], 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    # A client that refuses the certificate is no news.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
