# SPDX-License-Identifier: GPL-3.0-or-later
"""The stall that the demo and the tests reproduce."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from dualstack_epc.net.listener import open_listener

from conftest import HOSTS, SUPPORT, connect, seconds_of, started, within

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="stall.py reads Linux's socket table"
)


def seconds_until_refused(family: str, port: int) -> float:
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        connect(family, port)
    return time.monotonic() - start


@pytest.mark.parametrize("family", sorted(HOSTS))
def test_refused_at_the_retransmission_each_time_it_is_ready(family: str) -> None:
    with started(sys.executable, str(SUPPORT / "stall.py"), "--family", family) as stall:
        for _ in range(2):
            assert 0.9 < seconds_until_refused(family, stall.port) < 10
            assert stall.stdin
            assert stall.stdout
            print(file=stall.stdin, flush=True)
            assert stall.stdout.readline() == "ready\n"


def test_a_server_at_the_other_address_is_not_affected() -> None:
    with open_listener("ipv4") as listener:
        arguments = ("--family", "ipv6", "--port", str(listener.port))
        with started(sys.executable, str(SUPPORT / "stall.py"), *arguments) as stall:
            assert stall.port == listener.port
            within(0.5, lambda: seconds_of(lambda: connect("ipv4", listener.port).close()))


def test_black_hole_never_answers() -> None:
    with started(sys.executable, str(SUPPORT / "stall.py"), "--black-hole") as stall:
        with pytest.raises(TimeoutError):
            socket.create_connection(("::1", stall.port), timeout=1.5)
