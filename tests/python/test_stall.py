# SPDX-License-Identifier: GPL-3.0-or-later
"""The stall that the demo and the tests reproduce on Linux, and that Windows has."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.net.listener import open_listener

from conftest import HOSTS, SUPPORT, connect, seconds_of, started, within
from wine import on_wine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SILENT = os.environ.get("DUALSTACK_SILENT_PORTS", "").split()
pytestmark = pytest.mark.skipif(
    sys.platform not in {"linux", "win32"} or (on_wine() and not SILENT),
    reason="stall.py reads Linux's socket table, and Windows stalls by itself: WINDOWS_NET",
)


def seconds_until_refused(family: str, port: int) -> float:
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        connect(family, port)
    return time.monotonic() - start


@contextlib.contextmanager
def stalling(family: str, port: int = 0) -> Iterator[tuple[int, Callable[[], None]]]:
    """Give a port, PORT if that is not 0, that stalls at FAMILY, and what has it do so again."""
    if sys.platform == "win32":
        with open_listener(family, port) as listener:
            port = listener.port
        yield port, lambda: None
        return
    command = [sys.executable, str(SUPPORT / "stall.py"), "--family", family, "--port", str(port)]
    with started(*command) as stall:

        def again() -> None:
            assert stall.stdin
            assert stall.stdout
            print(file=stall.stdin, flush=True)
            assert stall.stdout.readline() == "ready\n"

        yield stall.port, again


@pytest.mark.parametrize("family", sorted(HOSTS))
def test_refused_at_the_retransmission_each_time_it_is_ready(family: str) -> None:
    with stalling(family) as (port, again):
        for _ in range(2):
            assert 0.9 < seconds_until_refused(family, port) < 10
            again()


def test_a_server_at_the_other_address_is_not_affected() -> None:
    with open_listener("ipv4") as listener:
        with stalling("ipv6", listener.port) as (port, _):
            assert port == listener.port
            within(0.5, lambda: seconds_of(lambda: connect("ipv4", port).close()))


@pytest.mark.skipif(
    sys.platform == "win32" and not SILENT, reason="needs a port that answers nothing: WINDOWS_NET"
)
def test_black_hole_never_answers() -> None:
    with contextlib.ExitStack() as stack:
        if SILENT:
            port = int(SILENT[1])
        else:
            command = [sys.executable, str(SUPPORT / "stall.py"), "--black-hole"]
            port = stack.enter_context(started(*command)).port
        with pytest.raises(TimeoutError):
            socket.create_connection(("::1", port), timeout=1.5)
