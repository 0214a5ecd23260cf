# SPDX-License-Identifier: GPL-3.0-or-later
"""The raw hello server, as a child process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dualstack_epc

from conftest import (
    ENDINGS,
    command_line,
    connect,
    ended_by,
    own_host,
    refused,
    started,
    terminated,
    wait_until,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Child


# What makes closing a socket abort its connection.
LINGER_NOT = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)


@contextlib.contextmanager
def hello(*arguments: str) -> Iterator[Child]:
    with started(*command_line("hello", *arguments)) as child:
        yield child


def exchange(client: socket.socket, data: bytes = b"1") -> bytes:
    client.sendall(data)
    answer = b""
    while len(answer) < 5:
        part = client.recv(5 - len(answer))
        if not part:
            break
        answer += part
    return answer


@pytest.mark.parametrize(
    ("mode", "answering"),
    [("dual", ["ipv4", "ipv6"]), ("ipv4", ["ipv4"]), ("ipv6", ["ipv6"])],
)
def test_families(mode: str, answering: list[str]) -> None:
    with hello("--family", mode) as server:
        for family in ("ipv4", "ipv6"):
            if family in answering:
                with connect(family, server.port) as client:
                    assert exchange(client) == b"hello"
            else:
                assert refused(family, server.port)


@pytest.mark.parametrize("stop", [b"stop", b"stop\n", b"stop\r\n"])
def test_stop_closes_this_connection_only(stop: bytes) -> None:
    with hello() as server, connect("ipv4", server.port) as one:
        with connect("ipv6", server.port) as other:
            assert exchange(one) == b"hello"
            one.sendall(stop)
            assert one.recv(5) == b""
            assert exchange(other) == b"hello"


@pytest.mark.parametrize("data", [b"\0", b"\xff" * 1000, b"nonstop", b"GET / HTTP/1.1\r\n\r\n"])
def test_any_bytes_get_hello(data: bytes) -> None:
    with hello() as server, connect("ipv4", server.port) as client:
        assert exchange(client, data) == b"hello"


def test_many_clients_at_once() -> None:
    with hello() as server, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(connect(family, server.port))
            for family in ("ipv4", "ipv6")
            for _ in range(100)
        ]
        for client in clients:
            client.sendall(b"1")
        assert all(client.recv(5) == b"hello" for client in clients)


def test_disconnects_without_stop() -> None:
    with hello() as server:
        for _ in range(20):
            client = connect("ipv4", server.port)
            client.sendall(b"1")
            # An abortive close: the server's answer meets a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            client.close()
        with connect("ipv4", server.port) as client:
            assert exchange(client) == b"hello"


def test_client_that_never_reads() -> None:
    """Its answers fill the pipe; the server stops reading from it and serves the others."""
    with hello() as server, connect("ipv4", server.port) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.5)
        deadline = time.monotonic() + 5  # Where its pipe is full later, it is as good as that.
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < deadline:
                deaf.sendall(b"x" * 100)
        with connect("ipv4", server.port) as client:
            assert exchange(client) == b"hello"


@pytest.mark.parametrize("event", ENDINGS)
def test_it_ends_at_once_with_status_0(event: str) -> None:
    def ending() -> float:
        status, seconds, errors = ended_by(event, *command_line("hello"))
        assert status == 0
        assert errors.count("\n") <= 1
        return seconds

    within(2, ending)


def test_its_end_closes_connections() -> None:
    with hello() as server, connect("ipv6", server.port) as client:
        assert exchange(client) == b"hello"
        terminated(server)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(5) == b""


def test_port_in_use() -> None:
    with hello() as server:
        run = subprocess.run(
            command_line("hello", "--port", str(server.port)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 1
        assert run.stdout == ""
        assert run.stderr == (
            f"dualstack-epc: port {server.port} is in use at 127.0.0.1:{server.port}\n"
        )


def test_chosen_port() -> None:
    with hello() as server:
        port = server.port
        server.terminate()
        server.wait(30)
    with hello("--port", str(port)) as server:
        assert server.port == port


@pytest.mark.parametrize("port", ["65536", "-1", "x", "", "1e3", "٣"])
def test_bad_port(port: str) -> None:
    run = subprocess.run(
        command_line("hello", f"--port={port}"), capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "use a number from 0 to 65535" in run.stderr


def test_on_a_host_without_ipv6() -> None:
    wrapper = own_host("ipv6/conf/all/disable_ipv6 1")
    with started(*wrapper, *command_line("hello")) as server:
        assert server.stderr
        assert server.stderr.readline() == (
            f"dualstack-epc: hello at 127.0.0.1:{server.port}; this machine has no ipv6 loopback\n"
        )
        assert terminated(server) == ("", "")
    run = subprocess.run(
        [*wrapper, *command_line("hello", "--family", "ipv6")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == "dualstack-epc: this machine has no ipv6 loopback\n"


def test_console_script(monkeypatch: pytest.MonkeyPatch) -> None:
    # WinPython's pip makes scripts that look for their Python in the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    scripts = os.environ.get("DUALSTACK_SCRIPTS") or str(Path(sys.executable).parent)
    script = shutil.which("dualstack-epc", path=scripts)
    assert script is not None
    with started(script, "hello") as server, connect("ipv4", server.port) as client:
        assert exchange(client) == b"hello"


def test_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("dualstack-epc") == dualstack_epc.__version__


def test_closed_output() -> None:
    """A reader of the port that goes away does not end the server."""
    with hello() as server:
        assert server.stdout
        server.stdout.close()
        with connect("ipv4", server.port) as client:
            assert exchange(client) == b"hello"
        wait_until(lambda: server.poll() is None)
