# SPDX-License-Identifier: GPL-3.0-or-later
"""A server in a container, as far as the network goes, and a relay that publishes its port.

``python published.py ADDRESS`` makes a network namespace, with a server on its 127.0.0.1 alone,
and a relay outside that listens on ADDRESS alone, as those of WSL and Docker do.  It prints the
relay's port, or exits with status 3 where it may not make a namespace.  It ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading

GREETING = b"hello from inside\n"
NO_NAMESPACE = 3


def serve(listener: socket.socket) -> None:
    """Greet everybody who connects to LISTENER, and wait until they leave."""
    while True:
        client, _ = listener.accept()
        client.sendall(GREETING)
        threading.Thread(target=client.recv, args=(1,), daemon=True).start()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Pass on from SOURCE to SINK until one of them ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def lead(relay: socket.socket, server: tuple[str, int]) -> None:
    """Connect everybody who connects to RELAY to SERVER."""
    while True:
        client, _ = relay.accept()
        to_server = socket.create_connection(server)
        for pair in ((client, to_server), (to_server, client)):
            threading.Thread(target=carry, args=pair, daemon=True).start()


def inside(descriptor: int) -> None:
    """Serve in this namespace, and relay from the listener DESCRIPTOR, which is of another.

    Standard input ends this, too.
    """
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    relay = socket.socket(fileno=descriptor)
    threading.Thread(target=lead, args=(relay, server.getsockname()), daemon=True).start()
    print(relay.getsockname()[1], flush=True)
    sys.stdin.read()


def main(address: str) -> None:
    """Publish the server at ADDRESS until standard input ends."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    namespace = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]
    try:
        subprocess.run([*namespace, "ip", "link", "set", "lo", "up"], check=True)
    except (OSError, subprocess.SubprocessError):
        sys.exit(NO_NAMESPACE)
    with socket.create_server((address, 0), family=family) as relay:
        descriptor = relay.fileno()
        with subprocess.Popen(
            [*namespace, sys.executable, __file__, "--inside", str(descriptor)],
            pass_fds=[descriptor],
        ) as child:
            sys.stdin.read()
            child.kill()


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(int(sys.argv[2]))
    else:
        main(sys.argv[1])
