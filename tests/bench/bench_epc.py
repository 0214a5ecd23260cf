# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the EPC server against python-epc's, both in one run; `make bench-epc`.

The client is the same for both: frames over a socket, read until they are whole.  The status is 1
if a bound is not met.
"""

from __future__ import annotations

import compileall
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sexpdata

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import dualstack_epc
from dualstack_epc.wire.frames import FrameDecoder, encode_frame
from dualstack_epc.wire.printer import to_sexp
from dualstack_epc.wire.reader import read

from conftest import HOSTS, connect, started

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER = """
import resource, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
{imports}
server = Server(("localhost", 0))
rows = [[i, "row %d" % i, ["ok", "c%d" % i], i * 1.5] for i in range({rows})]
server.register_function(lambda *args: args, "echo")
server.register_function(lambda: rows, "rows")
server.register_function(len, "count")
server.register_function(lambda count: "x" * count, "text")
server.print_port()
server.serve_forever()
"""
OURS = "from dualstack_epc.drop_in.server import DualStackEPCServer as Server"
THEIRS = "from epc.server import ThreadingEPCServer as Server"

missed: list[str] = []


class Client:
    """Sends a frame and waits for the next one."""

    def __init__(self, port: int, family: str = "ipv4") -> None:
        self.sock = connect(family, port)
        self._decoder = FrameDecoder()

    def call(self, payload: bytes) -> bytes:
        """Return the payload of the reply to PAYLOAD."""
        return self.call_all([payload])[0]

    def call_all(self, payloads: list[bytes]) -> list[bytes]:
        """Send PAYLOADS at once; return as many replies, in the order in which they come."""
        self.sock.sendall(b"".join(map(encode_frame, payloads)))
        return [self._reply() for _ in payloads]

    def _reply(self) -> bytes:
        reply = self._decoder.next()
        while reply is None:
            reply = self._decoder.next(self.sock.recv(1 << 20))
        return reply


def judge(name: str, value: float, bound: str, unit: str = "x") -> None:
    """Print whether VALUE keeps BOUND, such as ">= 3"."""
    relation, limit = bound.split()
    met = value >= float(limit) if relation == ">=" else value <= float(limit)
    print(f"  {name:<46} {value:10.2f} {unit:<3} ({bound})  {'met' if met else 'MISSED'}")
    if not met:
        missed.append(name)


def seconds(function: Callable[[], Any], rounds: int) -> float:
    """Return the median time of FUNCTION over ROUNDS, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def throughput(port: int, clients: int = 8, calls: int = 500) -> float:
    """Return how many calls a second CLIENTS get answered together.

    Raise TimeoutError if one of them gets no answer for five seconds.
    """

    def work(_: int) -> None:
        client = Client(port)
        client.sock.settimeout(5)
        try:
            for _ in range(calls):
                client.call(b"(call 1 echo (1))")
        finally:
            client.sock.close()

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(work, range(clients)))
    return clients * calls / (time.perf_counter() - start)


def many_connections(port: int, count: int) -> float:
    """Return how many of COUNT connections on each family are answered while all are open."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = [Client(port, family) for family in HOSTS for _ in range(count)]
    answered = sum(client.call(b"(call 1 echo (1))").startswith(b"(return 1") for client in clients)
    for client in clients:
        client.sock.close()
    return answered / 2


def start_time(*command: str) -> float:
    """Return the time until COMMAND has printed a line, or has ended, in seconds."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        elapsed = time.perf_counter() - start
        child.kill()
    return elapsed


def compare_servers() -> None:
    """Compare round trips, throughput and large replies."""
    ours_code, theirs_code = (
        SERVER.format(imports=imports, rows=24_000) for imports in (OURS, THEIRS)
    )
    with (
        started(sys.executable, "-c", ours_code) as ours,
        started(sys.executable, "-c", theirs_code) as theirs,
    ):
        rounds = [(server_times(ours.port), server_times(theirs.port)) for _ in range(5)]
        own, other = (
            {key: statistics.median(each[key] for each in times) for key in times[0]}
            for times in zip(*rounds, strict=True)
        )
        for key in own:
            print(f"{key}: python-epc {other[key] * 1e3:.3f} ms, ours {own[key] * 1e3:.3f} ms")
        bounds = {"small call": 1.5, "call of 8 clients": 1.5, "1 MB structured reply": 3}
        for key, bound in bounds.items():
            judge(f"{key}, python-epc / ours", other[key] / own[key], f">= {bound}")
        judge(
            "connections open at once on each family",
            many_connections(ours.port, 1000),
            ">= 1000",
            "",
        )


def server_times(port: int) -> dict[str, float]:
    """Return the seconds of calls of the server at PORT."""
    client = Client(port)
    client.call(b"(call 1 echo (1))")
    times = {
        "small call": seconds(partial(client.call, b'(call 1 echo ("small" 1))'), 500),
        "1 MB structured reply": seconds(partial(client.call, b"(call 1 rows ())"), 3),
        "call of 8 clients": 1 / throughput(port),
    }
    client.sock.close()
    return times


def compare_codecs() -> None:
    """Compare the encoder and the decoder with sexpdata's."""
    rows = [[i, f"row {i}", ["ok", f"c{i}"], i * 1.5] for i in range(5000)]
    text = sexpdata.dumps(rows)
    judge(
        "encoder, sexpdata / ours",
        seconds(lambda: sexpdata.dumps(rows), 5) / seconds(lambda: to_sexp(rows), 5),
        ">= 5",
    )
    judge(
        "decoder, sexpdata / ours",
        seconds(lambda: sexpdata.loads(text), 5) / seconds(lambda: read(text), 5),
        ">= 1",
    )


def compare_start() -> None:
    """Compare the time to the port line with that of a bare Python.

    With bytecode, as where the package was compiled, and without, as Emacs finds it.
    """
    times: dict[str, list[float]] = {"bare": [], "compiled": [], "shipped": []}
    with tempfile.TemporaryDirectory() as directory:
        for kind in ("compiled", "shipped"):
            shutil.copytree(
                Path(dualstack_epc.__file__).parent,
                f"{directory}/{kind}/dualstack_epc",
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        compileall.compile_dir(f"{directory}/compiled", quiet=1)
        for _ in range(15):
            times["bare"].append(start_time(sys.executable, "-c", "pass"))
            for kind in ("compiled", "shipped"):
                main = f"{directory}/{kind}/dualstack_epc/__main__.py"
                times[kind].append(start_time(sys.executable, "-X", "utf8", main, "sidecar"))
    bare, compiled, shipped = (statistics.median(each) for each in times.values())
    print(
        f"start: bare Python {bare * 1e3:.1f} ms, to the port line {compiled * 1e3:.1f} ms,"
        f" without bytecode {shipped * 1e3:.1f} ms"
    )
    judge("start to port line / bare Python", compiled / bare, "<= 2.5")


if __name__ == "__main__":
    compare_servers()
    compare_codecs()
    compare_start()
    sys.exit(bool(missed))
