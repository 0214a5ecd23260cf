# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests share: children that end, and a check that nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from dualstack_epc.rpc.client import Client
from dualstack_epc.rpc.client import connect as connect_client

from epc_server import Raw, port, serving
from wine import on_wine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dualstack_epc.drop_in.server import DualStackEPCServer

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
HOSTS = {"ipv4": "127.0.0.1", "ipv6": "::1"}


# Examples are the same each time; a busy machine is slow, and that is no fault of theirs.
hypothesis.settings.register_profile(
    "ours",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --only."""
    parser.addoption("--only", metavar="REGEXP", help="run tests whose names match, as ERT does")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that --only does not name, by a regular expression of Emacs or Python."""
    only = config.getoption("--only")
    if not only:
        return
    # In Emacs it is `\\|' that is special, and `|' that is not; either is meant as special here.
    pattern = re.compile(re.sub(r"\\([|(){}])", r"\1", only))
    chosen = [item for item in items if pattern.search(item.name)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def wait_until(predicate: Callable[[], object], seconds: float = 30) -> None:
    """Return once PREDICATE is true; fail after SECONDS."""
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {seconds} s")
        time.sleep(0.002)


def within(seconds: float, measure: Callable[[], float]) -> None:
    """Fail unless MEASURE returns less than SECONDS, in one of five calls at most.

    A busy machine lengthens some of what it measures, and a fault all.
    """
    times = [measure()]
    while times[-1] >= seconds and len(times) < 5:
        times.append(measure())
    assert min(times) < seconds


def seconds_of(function: Callable[[], object]) -> float:
    """Return how many seconds a call of FUNCTION takes."""
    start = time.monotonic()
    function()
    return time.monotonic() - start


def _sockets() -> set[str]:
    """Return the open sockets of this process, on Linux."""
    found = set()
    for entry in Path("/proc/self/fd").glob("*") if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):
            target = str(entry.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


def _children() -> set[str]:
    """Return the process ids of this process's children, on Linux."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(path.read_text().split()) if path.exists() else set()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread, a socket or a child behind."""

    def state() -> set[object]:
        return {*threading.enumerate(), *_sockets(), *(f"process {pid}" for pid in _children())}

    def left() -> set[object]:
        gc.collect()
        return state() - before

    before = state()
    yield
    deadline = time.monotonic() + 5
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left()


class Child(subprocess.Popen[str]):
    """A child process whose first line has been read."""

    first_line: str

    @property
    def port(self) -> int:
        """The port that it printed."""
        return int(self.first_line)


@contextlib.contextmanager
def started(*command: str) -> Iterator[Child]:
    """Run a child while the body runs, once it has printed its first line."""
    child = Child(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stdout is not None
            child.first_line = child.stdout.readline()
            yield child
        finally:
            child.kill()


def command_line(*arguments: str) -> list[str]:
    """Return the command ``dualstack-epc`` with ARGUMENTS, for this interpreter."""
    return [sys.executable, "-m", "dualstack_epc", *arguments]


def endings() -> list[str]:
    """Return how the keyboard, and an init system, end a command."""
    if sys.platform != "win32":
        return ["SIGINT", "SIGTERM"]
    return ["SIGINT"] if on_wine() else ["SIGINT", "SIGBREAK"]  # Wine gives Ctrl-Break to nobody.


ENDINGS = endings()
# A module that has another thread take SIGTERM.  It does not end a wait of the main thread then, nor
# does one that comes just before the wait, which cannot be had at will.
TAKES_SIGNALS = """
import signal, threading
def _take():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Event().wait()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threading.Thread(target=_take, daemon=True).start()
"""


def console(*arguments: str) -> tuple[int, str]:
    """Run console.py with ARGUMENTS in a console of its own; return its status and output."""
    # Not over a pipe: where a command does not end, it may keep one open that nobody then closes.
    with tempfile.TemporaryFile("w+") as output:
        run = subprocess.run(
            [sys.executable, str(SUPPORT / "console.py"), *arguments],
            stdout=output,
            stderr=output,
            check=False,
            timeout=60,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        output.seek(0)
        return run.returncode, output.read()


def ended_by(event: str, *command: str, when: Sequence[str] = ()) -> tuple[int, float, str]:
    """Run COMMAND and end it by EVENT; return its status, the seconds of that, and its log.

    WHEN are options of console.py that say when.
    """
    done, output = console(*when, event, *command)
    assert done == 0, output
    first, _, log = output.partition("\n")
    status, seconds = first.split()
    return int(status), float(seconds), log


def terminated(child: Child) -> tuple[str, str]:
    """End CHILD, in order where the system has a signal for that; return its output and log."""
    child.terminate()
    output = child.communicate(timeout=30)
    assert child.returncode == (1 if sys.platform == "win32" else 0)
    return output


def own_host(*settings: str) -> list[str]:
    """Return a wrapper that runs a command on a host of its own, with only a loopback.

    SETTINGS are "FILE VALUE", written below /proc/sys/net.  Skip where that is not allowed.  Where
    those who run the tests have made such a host, DUALSTACK_OWN_HOST has its settings.
    """
    if os.environ.get("DUALSTACK_OWN_HOST") == "\n".join(settings):
        return []
    script = "ip link set lo up 2>/dev/null || true\n"
    for setting in settings:
        file, value = setting.split(" ", 1)
        script += f"echo {value} >/proc/sys/net/{file}\n"
    wrapper = ["unshare", "-rn", "sh", "-ec", script + 'exec "$@"', "--"]
    try:
        subprocess.run([*wrapper, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs unshare, and leave to make a network namespace")
    return wrapper


def connect(family: str, port: int) -> socket.socket:
    """Return a socket connected to PORT of the loopback address of FAMILY."""
    return socket.create_connection((HOSTS[family], port), timeout=30)


def refused(family: str, port: int) -> bool:
    """Return whether nobody listens at PORT of the loopback address of FAMILY."""
    try:
        connect(family, port).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def server() -> Iterator[DualStackEPCServer]:
    with serving() as server:
        yield server


@pytest.fixture
def raw(server: DualStackEPCServer) -> Iterator[Raw]:
    with Raw(server) as raw:
        yield raw


@pytest.fixture
def client(server: DualStackEPCServer) -> Iterator[Client]:
    with connect_client(port=port(server)) as client:
        yield client
