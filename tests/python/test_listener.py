# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener: one port on both loopback addresses."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time

import pytest

from dualstack_epc.net import listener as module
from dualstack_epc.net.listener import PortInUseError, format_address, open_listener

from conftest import connect, own_host, refused

if sys.platform != "win32":
    import resource


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_dual_answers_on_each_family(family: str) -> None:
    with open_listener() as listener, connect(family, listener.port) as client:
        accepted = listener.accept(timeout=30)
        assert accepted is not None
        sock, address = accepted
        with sock:
            assert address == client.getsockname()[:2]
            client.sendall(b"x")
            assert sock.recv(1) == b"x"


def test_addresses_are_the_loopback_literals() -> None:
    with open_listener() as listener:
        assert listener.addresses == [("127.0.0.1", listener.port), ("::1", listener.port)]
        assert listener.missing == ()
        port = listener.port
        assert listener.describe() == f"127.0.0.1:{port} and [::1]:{port}"


@pytest.mark.parametrize(("family", "other"), [("ipv4", "ipv6"), ("ipv6", "ipv4")])
def test_single_family_leaves_the_other_alone(family: str, other: str) -> None:
    with open_listener(family) as listener:
        assert not refused(family, listener.port)
        assert refused(other, listener.port)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_port_taken_at_either_address(family: str) -> None:
    with open_listener(family) as other:
        with pytest.raises(PortInUseError, match=f"port {other.port} is in use at .*{other.port}"):
            open_listener("dual", other.port)
        free = "ipv6" if family == "ipv4" else "ipv4"
        assert refused(free, other.port)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_drawn_port_is_free_at_both(
    family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel offers, first, ports that are taken at the other address."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    taken = []
    calls = []
    real = module._listen

    def listen(asked: socket.AddressFamily, where: str, port: int) -> socket.socket:
        sock = real(asked, where, port)
        calls.append(asked)
        if port == 0 and asked != family:
            # Somebody takes the other address before the second socket is made.
            taken.append(real(family, host, sock.getsockname()[1]))
        return sock

    monkeypatch.setattr(module, "_listen", listen)
    with open_listener() as listener:
        assert len({port for _, port in listener.addresses}) == 1
        assert len(listener.addresses) == 2
        # The family with the collision led at most once.
        assert len(taken) <= 1
    for sock in taken:
        sock.close()


def test_every_earlier_socket_is_closed_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    real = module._listen

    def listen(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        if made:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(real(family, host, port))
        return made[0]

    monkeypatch.setattr(module, "_listen", listen)
    with pytest.raises(OSError, match=r"cannot listen at \[::1\]:0: Too many open files"):
        open_listener()
    assert made[0].fileno() == -1


def test_same_port_again_at_once() -> None:
    with open_listener() as listener:
        port = listener.port
        with connect("ipv4", port):
            accepted = listener.accept(5)
            assert accepted
            accepted[0].close()
    with open_listener("dual", port) as listener:
        assert listener.port == port


@pytest.mark.parametrize(("family", "port"), [("dual", 65536), ("dual", -1), ("ipv5", 0)])
def test_bad_arguments(family: str, port: int) -> None:
    with pytest.raises(ValueError, match="use"):
        open_listener(family, port)


def test_accept_times_out() -> None:
    with open_listener() as listener:
        assert listener.accept(timeout=0) is None
        assert listener.accept(timeout=0.01) is None


def test_wake_from_another_thread() -> None:
    with open_listener() as listener:
        thread = threading.Thread(target=listener.wake)
        thread.start()
        assert listener.accept() is None
        thread.join()


def test_one_return_of_accept_is_for_all_that_woke_it() -> None:
    with open_listener() as listener:
        for _ in range(3):
            listener.wake()
        assert listener.accept() is None
        start = time.monotonic()
        assert listener.accept(timeout=0.2) is None
        assert time.monotonic() - start >= 0.19


SCRIPT = """
import sys
from dualstack_epc.net.listener import open_listener
with open_listener(sys.argv[1]) as listener:
    print([host for host, _ in listener.addresses], listener.missing)
"""


def on_host_without_ipv6(family: str) -> subprocess.CompletedProcess[str]:
    wrapper = own_host("ipv6/conf/all/disable_ipv6 1")
    return subprocess.run(
        [*wrapper, sys.executable, "-c", SCRIPT, family],
        capture_output=True,
        text=True,
        check=False,
    )


def test_on_a_host_without_ipv6() -> None:
    assert on_host_without_ipv6("dual").stdout == "['127.0.0.1'] ('ipv6',)\n"
    assert "this machine has no ipv6 loopback" in on_host_without_ipv6("ipv6").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors to set")
def test_out_of_descriptors_backs_off() -> None:
    """While accepting fails, the loop does not spin, and the client is served afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open_listener() as listener, connect("ipv4", listener.port):
        highest = listener._wake.fileno() + 30  # the test itself opens a few
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        fill = []
        try:
            while True:
                fill.append(socket.socket())
        except OSError:
            pass
        try:
            before = time.process_time()
            start = time.monotonic()
            assert listener.accept(timeout=0.5) is None
            assert time.monotonic() - start >= 0.5
            assert time.process_time() - before < 0.25
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for sock in fill:
                sock.close()
        accepted = listener.accept(timeout=30)
        assert accepted is not None
        accepted[0].close()


def test_format_address() -> None:
    assert format_address("127.0.0.1", 80) == "127.0.0.1:80"
    assert format_address("::1", 80) == "[::1]:80"
