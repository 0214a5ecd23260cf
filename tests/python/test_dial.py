# SPDX-License-Identifier: GPL-3.0-or-later
"""Connecting to localhost from Python."""

from __future__ import annotations

import re
import socket
import sys
import time

import pytest

from dualstack_epc.net.dial import _connected, dial
from dualstack_epc.net.listener import open_listener

from conftest import HOSTS, SUPPORT, started


@pytest.mark.parametrize("family", ["dual", "ipv4", "ipv6"])
def test_it_reaches_a_server_at_either_address(family: str) -> None:
    with open_listener(family) as listener, dial(listener.port, 5) as sock:
        host = "::1" if family == "ipv6" else "127.0.0.1"
        assert sock.getpeername()[:2] == (host, listener.port)
        assert sock.gettimeout() is None
        served = listener.accept(5)
        assert served
        served[0].close()
        assert listener.accept(0) is None  # The other address was not bothered.


def test_a_closed_port_is_named() -> None:
    with open_listener() as listener:
        port = listener.port
    with pytest.raises(
        ConnectionRefusedError, match=re.escape(f"[::1]:{port}: Connection refused")
    ):
        dial(port, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's socket table")
@pytest.mark.parametrize(("stalled", "served"), [("ipv4", "ipv6"), ("ipv6", "ipv4")])
def test_a_stalled_address_keeps_nobody_waiting(stalled: str, served: str) -> None:
    with open_listener(served) as listener:
        arguments = ("--family", stalled, "--port", str(listener.port))
        with started(sys.executable, str(SUPPORT / "stall.py"), *arguments):
            start = time.monotonic()
            with dial(listener.port, 5) as sock:
                assert sock.getpeername()[0] == HOSTS[served]
            assert time.monotonic() - start < 0.5  # The stall is a second.


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's socket table")
def test_two_silent_addresses_end_in_a_timeout() -> None:
    command = [sys.executable, str(SUPPORT / "stall.py"), "--black-hole"]
    with started(*command, "--family", "ipv4") as first:
        port = str(first.port)
        with started(*command, "--family", "ipv6", "--port", port):
            with pytest.raises(TimeoutError, match=f"port {port}: no answer within 0.2 s"):
                dial(first.port, 0.2)


def test_a_connection_to_itself_is_a_refusal() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())
    with pytest.raises(ConnectionRefusedError, match="refused"):
        _connected(sock, sock.getsockname()[1])
    assert sock.fileno() == -1
