# SPDX-License-Identifier: GPL-3.0-or-later
"""Connecting to localhost from Python."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.net.dial import _connected, dial
from dualstack_epc.net.listener import open_listener

from conftest import HOSTS, SUPPORT, seconds_of, started, within

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        ConnectionRefusedError, match=rf"(127\.0\.0\.1|\[::1\]):{port}: Connection refused"
    ):
        dial(port, 5)


@contextlib.contextmanager
def silent(*families: str) -> Iterator[int]:
    """Have a port where connecting to the addresses of FAMILIES, in order, gets no answer.

    On Windows those who run the tests say where that is; a full backlog refuses there.
    """
    ports = os.environ.get("DUALSTACK_SILENT_PORTS", "").split()
    if ports:
        order = {("ipv4",): 0, ("ipv6",): 1, ("ipv4", "ipv6"): 2}
        yield int(ports[order[families]])
        return
    if sys.platform != "linux":
        pytest.skip("needs a port that answers nothing: WINDOWS_NET")
    command = [sys.executable, str(SUPPORT / "stall.py"), "--black-hole", "--family"]
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(started(*command, families[0])).port
        for family in families[1:]:
            stack.enter_context(started(*command, family, "--port", str(port)))
        yield port


@pytest.mark.parametrize(("stalled", "served"), [("ipv4", "ipv6"), ("ipv6", "ipv4")])
def test_a_stalled_address_keeps_nobody_waiting(stalled: str, served: str) -> None:
    with silent(stalled) as port:
        with open_listener(served, port) as listener:

            def connected() -> None:
                with dial(listener.port, 30) as sock:
                    assert sock.getpeername()[0] == HOSTS[served]

            within(0.5, lambda: seconds_of(connected))  # The stall is a second.


def test_two_silent_addresses_end_in_a_timeout() -> None:
    with silent("ipv4", "ipv6") as port:
        with pytest.raises(TimeoutError, match=f"port {port}: no answer within 0.2 s"):
            dial(port, 0.2)


def test_a_connection_to_itself_is_a_refusal() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())
    with pytest.raises(ConnectionRefusedError, match="refused"):
        _connected(sock, sock.getsockname()[1])
    assert sock.fileno() == -1
