# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how long C-g has no effect while Emacs connects, by real key presses.

    python bench_quit.py [--presses N] [--load]

An Emacs in a terminal of its own (a pty) connects to a server that has stopped, is silent, does
not accept, or is not there.  C-g is typed at a random moment, and the time until it has quit is
measured.  The status is 1 if the longest is over the bound; what a plain wait of Emacs takes to
be quit, on this machine at this time, is measured likewise and does not count.  With --load,
Emacs waits for a call while 10,000 others of 100 KB are under way.  Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import random
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
BOUND = 0.05  # seconds
PLAIN = "a plain wait"
LOAD = "10,000 calls of 100 KB under way"
DEADLINE = 60.0  # seconds for one line of the Emacs
SLOW = """
import time
from dualstack_epc.drop_in.server import DualStackEPCServer
server = DualStackEPCServer()
server.register_function(lambda index, text: time.sleep(0.01) or index, 'slow')
server.print_port()
server.serve_forever()
"""


@contextlib.contextmanager
def stall(family: str, port: int, *options: str) -> Iterator[int]:
    """Make connecting to PORT of FAMILY stall, by support/stall.py, and yield the port."""
    command = [sys.executable, str(ROOT / "tests/support/stall.py"), "--family", family]
    with subprocess.Popen(
        [*command, "--port", str(port), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        try:
            yield int(child.stdout.readline())
            child.stdin.close()
        finally:
            child.terminate()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Serve on 127.0.0.1 and yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def drain(terminal: int) -> None:
    """Read what Emacs shows, for it waits otherwise."""
    with contextlib.suppress(OSError):
        while select.select([terminal], [], [], None)[0] and os.read(terminal, 65536):
            pass


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of the file PATH as they are written."""
    with path.open() as file:
        line, limit = "", time.monotonic() + DEADLINE
        while time.monotonic() < limit:
            line += file.readline()
            if line.endswith("\n"):
                yield line.strip()
                line, limit = "", time.monotonic() + DEADLINE
            else:
                time.sleep(0.002)
    raise TimeoutError("Emacs has not answered")


def measure(cases: list[tuple[str, int, str]], presses: int) -> dict[str, list[float]]:
    """Return for each of CASES the seconds that each of PRESSES of C-g took to quit."""
    times: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    listed = " ".join(f'("{name}" {port} {how})' for name, port, how in cases)
    with tempfile.TemporaryDirectory() as directory:
        told = Path(directory) / "told"
        told.touch()
        emacs = os.environ.get("EMACS", "emacs")
        command = [
            emacs, "-nw", "-Q", "-L", str(ROOT / "lisp"), "-l", str(ROOT / "tests/bench/bench-quit.el"),
            "--eval", f"(dualstack-bench-quit \"{told}\" {presses} '({listed}))",
        ]  # fmt: skip
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp(emacs, command)
        threading.Thread(target=drain, args=(terminal,), daemon=True).start()
        name, pressed = "", 0.0
        for line in lines(told):
            word, value = line.split(" ", 1)
            if word == "ready":
                name = value
                time.sleep(random.uniform(0.02, 0.3))
                pressed = time.time()
                os.write(terminal, b"\x07")
            elif word == "quit":
                times[name].append(float(value) - pressed)
            else:
                assert value == "0", f"{value} processes are left"
                break
        os.waitpid(pid, 0)
        os.close(terminal)
    return times


@contextlib.contextmanager
def slow_server() -> Iterator[int]:
    """Serve EPC with a method that takes 10 ms, and yield the port."""
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE) as child:
        assert child.stdout
        try:
            yield int(child.stdout.readline())
        finally:
            child.terminate()


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description="Measure how long C-g has no effect.")
    parser.add_argument("--presses", type=int, default=20)
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    times = (times_under_load if options.load else times_of_connecting)(options.presses)
    plain = max(times.pop(PLAIN))
    print(f"C-g in a plain wait: {1000 * plain:.2f} ms (longest of {options.presses})")
    missed = False
    for name, values in times.items():
        longest = max(values)
        late = longest - plain > BOUND
        missed |= late
        print(
            f"{'MISSED' if late else 'met':6} C-g, {name:45} {1000 * longest:9.2f} ms "
            f"(longest of {len(values)}; bound: at most {1000 * BOUND:.0f} more than plain)"
        )
    sys.exit(1 if missed else 0)


def times_under_load(presses: int) -> dict[str, list[float]]:
    """Return what `measure` does of PRESSES while Emacs is at its calls."""
    with slow_server() as port:
        return measure([(PLAIN, 0, "ipv4"), (LOAD, port, "load")], presses)


def times_of_connecting(presses: int) -> dict[str, list[float]]:
    """Return what `measure` does of PRESSES while Emacs connects."""
    with contextlib.ExitStack() as stack:
        stopped, silent = stack.enter_context(server()), stack.enter_context(server())
        both = stack.enter_context(stall("ipv4", 0, "--black-hole"))
        full = stack.enter_context(stall("ipv4", 0, "--black-hole"))
        stack.enter_context(stall("ipv6", stopped))
        stack.enter_context(stall("ipv6", silent, "--black-hole"))
        stack.enter_context(stall("ipv6", both, "--black-hole"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = free.getsockname()[1]
        return measure(
            [
                (PLAIN, 0, "ipv4"),
                ("the remembered server has stopped", stopped, "ipv6"),
                ("the remembered server is silent", silent, "ipv6"),
                ("its backlog is full, nobody on ::1", full, "ipv4"),
                ("nobody", nobody, "ipv4"),
                ("both are silent", both, "ipv4"),
            ],
            presses,
        )


if __name__ == "__main__":
    main()
