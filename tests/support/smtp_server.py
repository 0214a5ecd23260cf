# SPDX-License-Identifier: GPL-3.0-or-later
"""An SMTP sink with STARTTLS (RFC 3207): smtp_server.py FAMILY CA-FILE.

Prints its port, and then every message's body between lines of dashes.  The certificate for
localhost is of an authority whose own certificate is written to CA-FILE.
"""

from __future__ import annotations

import socketserver
import ssl
import sys
from pathlib import Path

try:
    import trustme
except ImportError:  # Then there is no STARTTLS.
    trustme = None  # type: ignore[assignment, unused-ignore]

from dualstack_epc.net.listener import open_listener

REPLIES = {"MAIL": "250 ok", "RCPT": "250 ok", "RSET": "250 ok", "NOOP": "250 ok"}


class Session(socketserver.StreamRequestHandler):
    """One client."""

    context: ssl.SSLContext | None = None

    def say(self, line: str) -> None:
        """Send LINE."""
        self.wfile.write(line.encode() + b"\r\n")
        self.wfile.flush()

    def handle(self) -> None:
        """Greet, and answer commands."""
        self.say("220 sink")
        while line := self.rfile.readline().decode().strip():
            command = line.split(" ")[0].upper()
            if command == "EHLO":
                self.say("250-sink\r\n250 STARTTLS" if self.context else "250 sink")
            elif command == "STARTTLS" and self.context:
                self.say("220 go")
                self.request = self.context.wrap_socket(self.request, server_side=True)
                self.setup()
            elif command == "DATA":
                self.say("354 send")
                self.take_message()
            elif command == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say(REPLIES.get(command, "500 what"))

    def take_message(self) -> None:
        """Read a message and print it."""
        lines = []
        while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
            lines.append(line)
        secure = isinstance(self.request, ssl.SSLSocket)
        print(f"--- {'encrypted' if secure else 'plain'}", *lines, "---", sep="\n", flush=True)
        self.say("250 taken")


def main() -> None:
    """Serve until killed."""
    family, ca_file = sys.argv[1:]
    if trustme:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(Path(ca_file))
        Session.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(Session.context)
    listener = open_listener(family)
    print(listener.port, flush=True)
    while client := listener.accept():
        sock, address = client
        Session(sock, address, None)  # type: ignore[arg-type]
        sock.close()


if __name__ == "__main__":
    main()
