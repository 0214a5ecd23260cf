# SPDX-License-Identifier: GPL-3.0-or-later
"""How long calls take: by each client and server together, and by the servers alone.

A server alone is called by a client that does nothing but frame: what is left is the server's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def epc_times() -> tuple[Table, dict[str, Spread | None]]:
    """Return the time of calls, by client and server, and by what is called, and our ratios.

    All clients are measured in one Emacs, in rounds.  A ratio is how many times as long as that of
    jsonrpc.el our call in the same round took.
    """
    with contextlib.ExitStack() as stack:
        ports = " ".join(
            f"({client} . {stack.enter_context(started(*server)).port})"
            for client, server in PAIRS.values()
        )
        samples = run_emacs(f"dualstack-compare '({ports})")
    table: Table = {
        name: {
            row: spread([each for each in cells[client] if each])
            for row, cells in samples.items()
            if client in cells
        }
        for name, (client, _) in PAIRS.items()
        if client in samples["small call"]
    }
    for name, code in SERVERS.items():
        table[name] = server_times(code)
    return table, {row: ratio_spread(cells) for row, cells in samples.items()}


def ratio_spread(cells: dict[str, list[float]]) -> Spread | None:
    """Return what the ratios of our time and jsonrpc.el's in each round of CELLS come to."""
    pairs = zip(cells["dualstack"], cells["jsonrpc"], strict=False)
    return spread([ours / theirs for ours, theirs in pairs if ours and theirs])


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
        samples = run_emacs(f"dualstack-compare-open {child.port}")
    return {"dualstack": {row: spread(times) for row, times in samples.items()}}


def stream_times() -> Table:
    """Return the time of calls from Emacs, by what carries them, for modules of `FUNCTIONS`."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as directory:
        module = Path(directory) / "functions.py"
        module.write_text(FUNCTIONS)
        for stream in STREAMS if os.name == "posix" else STREAMS[:2]:
            code = f'(dualstack-compare-streams "{stream}" {json.dumps(str(module))})'
            samples = run_batch(code, "compare-streams.el") or {}
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


def run_batch(code: str, file: str) -> dict[str, list[float]] | None:
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


def run_emacs(code: str) -> dict[str, Any]:
    """Return what CODE, a call without its last argument, a file, writes there in Emacs.

    Emacs has a terminal, for there it waits for keys.
    """
    program = os.environ.get("EMACS", "emacs")
    script = str(Path(__file__).with_name("compare-epc.el"))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "samples.json"
        call = f'({code} "{file}")'
        command = [program, "-Q", "-nw", "-L", str(ROOT / "lisp"), "-l", script, "--eval", call]
        screen = run_at_terminal(command)
        if not file.exists():
            raise RuntimeError(f"Emacs has measured nothing: {screen[-2000:]!r}")
        result: dict[str, Any] = json.loads(file.read_text())
    return result


def run_at_terminal(command: list[str]) -> bytes:
    """Run COMMAND at a terminal until it ends, for `TIMEOUT` seconds at most; return its output."""
    import pty  # there is none on Windows

    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    output = b""
    end = time.monotonic() + TIMEOUT
    try:
        while time.monotonic() < end:
            if select.select([terminal], [], [], 1)[0]:
                output += os.read(terminal, 65536)
        os.kill(pid, signal.SIGKILL)
    except OSError:  # So the end of a terminal is told.
        pass
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return output
