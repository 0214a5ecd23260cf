# SPDX-License-Identifier: GPL-3.0-or-later
"""How long clients need to connect to localhost, where each refused connect takes a second.

localhost is ::1 first, for the clients alone.  The stall is tests/support/stall.py's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from samples import spread

from conftest import ROOT, SUPPORT, command_line, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samples import Table

ROUNDS = 5
KINDS = {"ipv4": "server on 127.0.0.1", "ipv6": "server on ::1", "dual": "server on both"}

PYTHON = "import socket, sys, time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
ASYNCIO = (
    "import asyncio, sys, time\nasync def main():\n t = time.perf_counter()\n"
    " await asyncio.open_connection('localhost', int(sys.argv[1]){})\n"
    " print(time.perf_counter() - t)\nasyncio.run(main())"
)
NODE = (
    "const t = process.hrtime.bigint(); require('net').connect({ host: 'localhost', port:"
    " Number(process.argv[1]), autoSelectFamily: true }, function () {"
    " console.log(Number(process.hrtime.bigint() - t) / 1e9); this.destroy(); })"
    ".on('error', () => console.log('nil'))"
)


def emacs(kind: str) -> list[str]:
    """Return the command that measures Emacs's KIND of connect; the port is appended."""
    program = os.environ.get("EMACS", "emacs")
    script = str(ROOT / "tests/bench/compare-connect.el")
    code = f"(dualstack-compare '{kind} (string-to-number (pop command-line-args-left)))"
    return [program, "-Q", "--batch", "-L", str(ROOT / "lisp"), "-l", script, "--eval", code]


CLIENTS: dict[str, list[str]] = {
    "Emacs, localhost": emacs("plain"),
    "Emacs, 127.0.0.1": emacs("literal"),
    "dualstack": emacs("ours"),
    "curl": ["curl", "-s", "-o", "/dev/null", "--http0.9", "-m", "3", "-w", "%{time_connect}"],
    "Node": ["node", "-e", NODE],
    "Python": [
        sys.executable,
        "-c",
        PYTHON.format("socket.create_connection(('localhost', int(sys.argv[1])))"),
    ],
    "asyncio": [sys.executable, "-c", ASYNCIO.format("")],
    "asyncio, Happy Eyeballs": [
        sys.executable,
        "-c",
        ASYNCIO.format(", happy_eyeballs_delay=0.25"),
    ],
}


@contextlib.contextmanager
def localhost_with_both() -> Iterator[dict[str, str]]:
    """Give an environment in which localhost is ::1 and then 127.0.0.1."""
    library = next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None)
    if library is None:
        sys.exit("libnss_wrapper is missing (Debian: apt-get install libnss-wrapper)")
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write("::1 localhost\n127.0.0.1 localhost\n")
        hosts.flush()
        yield {**os.environ, "LD_PRELOAD": str(library), "NSS_WRAPPER_HOSTS": hosts.name}


def measure(name: str, port: int, environment: dict[str, str]) -> float | None:
    """Return the seconds that the client NAME needs to connect to PORT, or None if it fails."""
    command = CLIENTS[name]
    target = f"http://localhost:{port}/" if name == "curl" else str(port)
    run = subprocess.run(
        [*command, target],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    try:
        return float(run.stdout) or None
    except ValueError:
        return None


def connect_times() -> Table:
    """Return the time to connect of each client that is installed, by kind of server."""
    table: Table = {}
    with localhost_with_both() as environment:
        for family, kind in KINDS.items():
            for name, command in CLIENTS.items():
                if shutil.which(command[0]):
                    times = [one_connect(family, name, environment) for _ in range(ROUNDS)]
                    table.setdefault(name, {})[kind] = spread([t for t in times if t is not None])
    return table


def missing() -> list[str]:
    """Return the names of clients that are not installed."""
    return [name for name, command in CLIENTS.items() if not shutil.which(command[0])]


def one_connect(family: str, name: str, environment: dict[str, str]) -> float | None:
    """Return the seconds of one connect of NAME to a server on FAMILY, the other one stalled."""
    with started(*command_line("hello", "--family", family)) as server:
        if family == "dual":
            return measure(name, server.port, environment)
        other = "ipv6" if family == "ipv4" else "ipv4"
        stall = [sys.executable, str(SUPPORT / "stall.py"), "--family", other]
        with started(*stall, "--port", str(server.port)):
            return measure(name, server.port, environment)
