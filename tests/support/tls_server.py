# SPDX-License-Identifier: GPL-3.0-or-later
"""A TLS server that greets its clients and echoes their lines.

    python tls_server.py FAMILY NAME FILE

FAMILY is ipv4 or ipv6, NAME the one in its certificate.  The authority that vouches for the
certificate is written to FILE.  It prints its port and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

import trustme

HOSTS = {"ipv4": "127.0.0.1", "ipv6": "::1"}


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet one client and echo its lines."""
    with contextlib.suppress(OSError):
        writer.write(b"* ready\n")
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def main(family: str, name: str, authority_file: str) -> None:
    """Serve until standard input ends."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    server = await asyncio.start_server(serve_client, HOSTS[family], 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    # A client that refuses the certificate is no news.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
