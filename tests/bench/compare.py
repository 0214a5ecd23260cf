# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare ways to connect to localhost, and EPC servers, side by side; `make bench`.

Every refused connect takes a second, as on Windows, and localhost is ::1 first.  Prints tables,
writes connect.json and epc.json, and a chart of each, to tests/bench/results.  What is not
installed is named, and not guessed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import bench_epc

from conftest import ROOT, SUPPORT, Child, command_line, started

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = ROOT / "tests" / "bench" / "results"
ROUNDS = 3
KINDS = {"ipv4": "127.0.0.1 only", "ipv6": "::1 only", "dual": "both"}

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


def connect_times() -> dict[str, dict[str, float | None]]:
    """Return the median seconds of each client, by kind of server."""
    table: dict[str, dict[str, float | None]] = {}
    with localhost_with_both() as environment:
        for family, kind in KINDS.items():
            for name in CLIENTS:
                if not shutil.which(CLIENTS[name][0]):
                    continue
                times = [one_connect(family, name, environment) for _ in range(ROUNDS)]
                good = [time for time in times if time is not None]
                median = statistics.median(good) if good else None
                table.setdefault(name, {})[kind] = median
    return table


def one_connect(family: str, name: str, environment: dict[str, str]) -> float | None:
    """Return the seconds of one connect of NAME to a server on FAMILY, the other one stalled."""
    with started(*command_line("hello", "--family", family)) as server:
        if family == "dual":
            return measure(name, server.port, environment)
        other = "ipv6" if family == "ipv4" else "ipv4"
        stall = [sys.executable, str(SUPPORT / "stall.py"), "--family", other]
        with started(*stall, "--port", str(server.port)):
            return measure(name, server.port, environment)


def epc_times() -> dict[str, dict[str, float]]:
    """Return round trips by payload and calls a second by clients, of both servers, in seconds."""
    table: dict[str, dict[str, float]] = {}
    codes = {"dualstack": bench_epc.OURS, "python-epc": bench_epc.THEIRS}
    for name, imports in codes.items():
        with started(sys.executable, "-c", bench_epc.SERVER.format(imports=imports)) as child:
            row = table.setdefault(name, {})
            for size in (1_000, 10_000, 100_000, 1_000_000, 16_000_000):
                row[f"{size // 1000:,} KB"] = echo_time(child, size)
            for clients in (1, 8, 64):
                rate = bench_epc.throughput(child.port, clients, 6400 // (clients * 4))
                row[f"{clients} callers"] = 1 / rate
    return table


def echo_time(child: Child, size: int) -> float:
    """Return the median seconds of an echo of SIZE bytes by CHILD."""
    client = bench_epc.Client(child.port)
    payload = b'(call 1 echo ("' + b"x" * size + b'"))'
    seconds = bench_epc.seconds(partial(client.call, payload), 3 if size > 100_000 else 50)
    client.sock.close()
    return seconds


def show(value: float | None) -> str:
    """Return VALUE, in seconds, as a short text."""
    if value is None:
        return "fails"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.2f} ms"


def chart(
    title: str, table: dict[str, dict[str, float]] | dict[str, dict[str, float | None]]
) -> str:
    """Return an SVG chart of TABLE, times on a log scale from 10 us to 10 s."""
    import math

    left, width, row = 190, 420, 18
    lines = []
    y = 40
    columns = list(dict.fromkeys(key for values in table.values() for key in values))
    for column in columns:
        lines.append(f'<text x="5" y="{y + 13}" font-weight="bold">{column}</text>')
        y += row
        for name, values in table.items():
            value = values.get(column)
            length = 0.0 if value is None else max(2, width * (math.log10(value) + 5) / 6)
            color = "#2a7" if name == "dualstack" else "#999"
            lines.append(f'<text x="20" y="{y + 13}">{name}</text>')
            lines.append(
                f'<rect x="{left}" y="{y + 2}" width="{length:.0f}" height="13" fill="{color}"/>'
                f'<text x="{left + length + 5:.0f}" y="{y + 13}">{show(value)}</text>'
            )
            y += row
        y += 6
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y + 10}"'
        f' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="5" y="20" font-size="15">{title}</text>\n{body}\n</svg>\n'
    )


def main() -> None:
    """Measure, print and write everything."""
    RESULTS.mkdir(exist_ok=True)
    for name, command in CLIENTS.items():
        if not shutil.which(command[0]):
            print(f"{name} is not installed: not compared")
    connect = connect_times()
    print(f"{'Connecting, in the stall':<26}" + "".join(f"{kind:>16}" for kind in KINDS.values()))
    for name, row in connect.items():
        print(f"{name:<26}" + "".join(f"{show(row[kind]):>16}" for kind in KINDS.values()))
    epc = epc_times()
    print(f"\n{'EPC, time per call':<26}" + "".join(f"{name:>16}" for name in epc))
    for key in next(iter(epc.values())):
        print(f"{key:<26}" + "".join(f"{show(row[key]):>16}" for row in epc.values()))
    for file, title, table in [
        ("connect", "Time to connect to localhost, log scale", connect),
        ("epc", "Time per EPC call, log scale", epc),
    ]:
        (RESULTS / f"{file}.json").write_text(json.dumps(table, indent=1) + "\n")
        (RESULTS / f"{file}.svg").write_text(chart(title, table))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
