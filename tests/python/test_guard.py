# SPDX-License-Identifier: GPL-3.0-or-later
"""A sidecar ends when Emacs is gone, whatever runs in it, and so do its pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.rpc.client import connect
from dualstack_epc.rpc.errors import CallTimeoutError, ConnectionClosedError

from conftest import seconds_of, wait_until, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOWS = sys.platform == "win32"
FOREVER = {
    "a regular expression": 'import re; re.match("(a+)+$", "a" * 60 + "b")',
    "a sum": "sum(range(10**13))",
    "a sleep": "import time; time.sleep(1000)",
    "a loop that catches all": """
while True:
    try:
        while True: pass
    except BaseException: pass""",
}
WORSE = {
    "no threads": """import threading, time
def start(self): raise RuntimeError('no threads')
threading.Thread.start = start
time.sleep(1000)""",
    "no files": "import os, re; os.closerange(3, 256); re.match('(a+)+$', 'a' * 60 + 'b')",
}
# Stands for Emacs: it starts the sidecar, tells of it, and waits to be killed.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "dualstack_epc", "sidecar", sys.argv[1]],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(child.pid, flush=True)
for _ in range(2):
    print(child.stdout.readline(), end="", flush=True)
child.wait()
"""


def members(group: int) -> list[int]:
    """Return the processes of GROUP, on Linux."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[2]) == group and stat[0] != "Z":
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether the process PID still runs; it must run now."""
    if sys.platform == "win32":
        import _winapi  # noqa: PLC0415, it is Windows'

        handle = _winapi.OpenProcess(0x100000, False, pid)  # SYNCHRONIZE
        try:
            yield lambda: _winapi.WaitForSingleObject(handle, 0) == _winapi.WAIT_TIMEOUT
        finally:
            _winapi.CloseHandle(handle)
    else:

        def running() -> bool:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                return True
            return False

        yield running


class Family:
    """A sidecar, its guard and their parent."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        self.parent = parent
        assert parent.stdout
        self.pid = int(parent.stdout.readline())

    def kill_parent(self) -> float:
        """Kill the parent; return after how many seconds nothing of it is left."""
        with watched(self.pid) as running:
            self.parent.kill()
            if sys.platform == "win32":
                return seconds_of(lambda: wait_until(lambda: not running()))
        self.parent.wait()
        return seconds_of(lambda: wait_until(lambda: not members(self.parent.pid)))

    def end(self) -> None:
        """Kill them all."""
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGTERM)
            self.parent.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.parent.pid, signal.SIGKILL)


@contextlib.contextmanager
def family(module: Path) -> Iterator[Family]:
    """Run a parent with a sidecar that serves MODULE."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(module)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as parent:
        members = Family(parent)
        try:
            yield members
        finally:
            members.end()


@pytest.mark.skipif(not (WINDOWS or sys.platform == "linux"), reason="looks into /proc")
@pytest.mark.parametrize("what", FOREVER)
def test_no_orphan_while_a_module_is_loaded(what: str, tmp_path: Path) -> None:
    module = tmp_path / "forever.py"
    flag = tmp_path / "begun"
    module.write_text(f"open({str(flag)!r}, 'w').close()\n{FOREVER[what]}\n")

    def kill() -> float:
        flag.unlink(missing_ok=True)
        with family(module) as child:
            wait_until(flag.exists)
            return child.kill_parent()

    within(2, kill)


@pytest.mark.skipif(not (WINDOWS or sys.platform == "linux"), reason="looks into /proc")
@pytest.mark.parametrize("what", [*FOREVER, *WORSE])
def test_no_orphan_while_a_method_runs(what: str, tmp_path: Path) -> None:
    module = tmp_path / "forever.py"
    body = {**FOREVER, **WORSE}[what]
    indented = body.replace("\n", "\n    ")
    module.write_text(f"def run():\n    {indented}\n")

    def kill() -> float:
        with family(module) as child:
            assert child.parent.stdout
            number = int(child.parent.stdout.readline())
            token = child.parent.stdout.readline().split('"')[1]
            with connect("127.0.0.1", number, token=token) as client:
                with pytest.raises((CallTimeoutError, ConnectionClosedError)):
                    client.call_sync("run", [], 0.3)
                return child.kill_parent()

    within(2, kill)


@contextlib.contextmanager
def sidecar(module: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a sidecar that serves MODULE, with pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dualstack_epc", "sidecar", str(module)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream
            stream.close()


@pytest.mark.skipif(WINDOWS, reason="no guard copies there what programs write")
def test_a_program_of_a_method_keeps_no_pipe_open(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, sys, time\nprint('from the program', flush=True)\nsys.stdin.readline()\n"
        f"pathlib.Path({str(done)!r}).touch()\ntime.sleep(60)\n"
    )
    module = tmp_path / "starts.py"
    module.write_text(
        "import subprocess, sys\ndef start():\n"
        f"    return subprocess.Popen([sys.executable, {str(program)!r}]).pid\n"
    )
    with sidecar(module) as process:
        assert process.stdout
        assert process.stderr
        number = int(process.stdout.readline())
        token = process.stdout.readline().split(b'"')[1].decode()
        with connect("127.0.0.1", number, token=token) as client:
            started = client.call_sync("start", [], 30)
        with watched(started) as running:
            try:
                wait_until(done.exists)  # Its own standard input is at its end.
                process.kill()
                process.stdout.read()
                log = process.stderr.read()
                assert b"from the program\n" in log
                assert running()  # It lives, and would keep them open for a minute.
            finally:
                os.kill(started, signal.SIGTERM)


def test_what_a_crash_writes_last_arrives(tmp_path: Path) -> None:
    module = tmp_path / "crashes.py"
    module.write_text("""
import os, sys
sys.stderr.write("x" * 300_000 + "\\n")
sys.stderr.write("last words\\n")
os.abort()
""")
    with sidecar(module) as process:
        _, errors = process.communicate(timeout=30)
        assert len(errors) > 300_000
        assert errors.splitlines()[-1] == b"last words"
        assert process.returncode in {-signal.SIGABRT, 3}  # 3 is Windows'.


def test_sigterm_ends_what_holds_the_lock(tmp_path: Path) -> None:
    module = tmp_path / "sums.py"
    flag = tmp_path / "begun"
    module.write_text(f"open({str(flag)!r}, 'w').close()\nsum(range(10**13))\n")
    for _ in range(10):
        flag.unlink(missing_ok=True)
        with sidecar(module) as process:
            wait_until(flag.exists)
            process.terminate()
            status = process.wait(30)
        if status != 0:  # Else the signal has come before the sum began.
            break
    assert status == (1 if WINDOWS else -signal.SIGKILL)


def test_the_end_of_input_ends_in_order(tmp_path: Path) -> None:
    module = tmp_path / "tidy.py"
    flag = tmp_path / "tidied"
    module.write_text(f"import atexit\natexit.register(lambda: open({str(flag)!r}, 'w').close())\n")
    with sidecar(module) as process:
        assert process.stdin
        assert process.stdout
        number = int(process.stdout.readline())
        token = process.stdout.readline().split(b'"')[1].decode()
        with connect("127.0.0.1", number, token=token) as client:
            assert client.call_sync("hello", [], 30) == "hello"
        process.stdin.close()
        assert process.wait(30) == 0
        assert flag.exists()
