# SPDX-License-Identifier: GPL-3.0-or-later
"""How long calls take: by each client and server together, and by the servers alone.

A server alone is called by a client that does nothing but frame: what is left is the server's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import bench_epc
from samples import sample, spread

from conftest import ROOT, command_line, started

if TYPE_CHECKING:
    from samples import Spread, Table

OURS = bench_epc.SERVER.format(imports=bench_epc.OURS, rows=20_000)
THEIRS = bench_epc.SERVER.format(imports=bench_epc.THEIRS, rows=20_000)
JSONRPC = str(Path(__file__).with_name("jsonrpc_server.py"))

RAW = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
client, _ = listener.accept()
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := client.recv(65536):
    client.sendall(data)
"""

PAIRS = {
    "dualstack": ("dualstack", [sys.executable, "-c", OURS]),
    "epc.el, python-epc": ("epc", [sys.executable, "-c", THEIRS]),
    "jsonrpc.el, Python": ("jsonrpc", [sys.executable, JSONRPC]),
    "a raw echo in Python": ("raw", [sys.executable, "-c", RAW]),
}
SERVERS = {"dualstack's server alone": OURS, "python-epc alone": THEIRS}
SIZES = (1_000, 10_000, 100_000, 1_000_000, 16_000_000)
CALLERS = (1, 8, 64)
STREAMS = ("socket", "pipe", "pty")
FUNCTIONS = """
def echo(value): return value
def count(text): return len(text)
def text(size): return "x" * size
"""
TIMEOUT = 900  # seconds for one client


def epc_times() -> Table:
    """Return the time of calls, by client and server, and by what is called."""
    table: Table = {}
    for name, (client, server) in PAIRS.items():
        with started(*server) as child:
            samples = run_emacs(f"(dualstack-compare '{client} {child.port})")
        if samples is not None:
            table[name] = {row: spread(times) for row, times in samples.items()}
    for name, code in SERVERS.items():
        table[name] = server_times(code)
    return table


def server_times(code: str) -> dict[str, Spread | None]:
    """Return the times of calls of the server that CODE is."""
    cells = {}
    with started(sys.executable, "-c", code) as child:
        client = bench_epc.Client(child.port)
        cells["small call"] = spread(sample(lambda: client.call(b"(call 1 echo (1))")))
        together = [b"(call %d echo (1))" % number for number in range(64)]
        cells["64 calls at once"] = spread(sample(lambda: client.call_all(together)))
        cells["20,000 rows to Emacs"] = spread(sample(lambda: client.call(b"(call 1 rows ())")))
        for size in SIZES:
            payload = b'(call 1 count ("' + b"x" * size + b'"))'
            cells[f"{size // 1000} KB to Python"] = spread(sample(partial(client.call, payload)))
        client.sock.close()
        for callers in CALLERS:
            cells[f"a call of {callers} callers"] = spread(throughput_times(child.port, callers))
    return cells


def throughput_times(port: int, callers: int) -> list[float]:
    """Return samples of the time per call of CALLERS together, or none if one gets no answer."""
    try:
        return [1 / bench_epc.throughput(port, callers, 800 // callers) for _ in range(5)]
    except TimeoutError as error:
        print(f"{callers} callers: {error}")
        return []


def open_times() -> Table:
    """Return the time of a connect from Emacs, by how many connections are open."""
    with started(*command_line("hello")) as child:
        samples = run_emacs(f"(dualstack-compare-open {child.port})") or {}
    return {"dualstack": {row: spread(times) for row, times in samples.items()}}


def stream_times() -> Table:
    """Return the time of calls from Emacs, by what carries them, for modules of `FUNCTIONS`."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as directory:
        module = Path(directory) / "functions.py"
        module.write_text(FUNCTIONS)
        for stream in STREAMS if os.name == "posix" else STREAMS[:2]:
            code = f'(dualstack-compare-streams "{stream}" {json.dumps(str(module))})'
            samples = run_emacs(code, "compare-streams.el") or {}
            table[stream] = {row: spread(times) for row, times in samples.items()}
    return table


def emacs_version() -> str:
    """Return the version of the Emacs that is measured."""
    program = os.environ.get("EMACS", "emacs")
    code = "(princ emacs-version)"
    run = subprocess.run(
        [program, "-Q", "--batch", "--eval", code], capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def run_emacs(code: str, file: str = "compare-epc.el") -> dict[str, list[float]] | None:
    """Return what CODE, with FILE, prints in Emacs: samples, or None if a program is missing."""
    program = os.environ.get("EMACS", "emacs")
    script = str(Path(__file__).with_name(file))
    run = subprocess.run(
        [
            program,
            "-Q",
            "--batch",
            "-L",
            str(ROOT / "lisp"),
            "-L",
            str(Path(script).parent),
            "-l",
            script,
            "--eval",
            code,
        ],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    samples: dict[str, list[float]] | None = json.loads(run.stdout) if run.stdout else None
    return samples
