# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication over real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.rpc import peer
from dualstack_epc.rpc.client import connect as connect_client
from dualstack_epc.rpc.errors import AuthenticationError, RefusedError
from dualstack_epc.wire.frames import encode_frame
from dualstack_epc.wire.lisp import Symbol

from conftest import wait_until
from epc_server import Raw, port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dualstack_epc.drop_in.server import DualStackEPCServer


@pytest.fixture
def closed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "AUTH_TIMEOUT", 0.3)


def test_a_client_with_the_token_is_let_in() -> None:
    with (
        serving(token="secret") as server,
        connect_client(port=port(server), token="secret") as client,
    ):
        assert client.call_sync("echo", [1], 30) == [1]
        large = "x" * 1_000_000
        assert client.call_sync("echo", [large], 30) == [large]


@pytest.mark.parametrize(
    "payload",
    [
        "(call 1 echo ())",
        "(methods 1)",
        "(return 1 2)",
        "nonsense",
        '(call 1 dualstack-prove ("x"))',
    ],
)
def test_without_the_proof_there_is_one_error_and_the_end(
    payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(token="secret") as server, Raw(server) as raw:
        called: list[int] = []
        server.register_function(lambda: called.append(1), "echo")
        raw.send(payload)
        raw.send("(call 2 echo ())")
        assert raw.receive()[0] == Symbol("epc-error")
        with contextlib.suppress(ConnectionResetError):
            assert raw.receive() is None
        assert not called
        wait_until(lambda: len(caplog.records) == 1)


def test_calls_in_one_packet_with_the_proof_are_served() -> None:
    from dualstack_epc.rpc.auth import dialled, proof  # noqa: PLC0415

    with serving(token="secret") as server, Raw(server) as raw:
        raw.send('(call 1 dualstack-auth ("n"))')
        own, servers = raw.receive()[2]
        place = dialled(raw.sock)
        assert servers == proof("secret", "server", "n", own, place)
        step = encode_frame(
            f'(call 2 dualstack-prove ("{proof("secret", "client", own, "n", place)}"))'.encode()
        )
        raw.sock.sendall(step + encode_frame(b"(call 3 echo (1))"))
        assert raw.receive() == [Symbol("return"), 2, True]
        assert raw.receive() == [Symbol("return"), 3, [1]]


def test_another_token_is_refused() -> None:
    with serving(token="secret") as server, pytest.raises(AuthenticationError):
        connect_client(port=port(server), token="other")


def test_a_server_without_authentication_is_not_trusted(server: DualStackEPCServer) -> None:
    with pytest.raises((AuthenticationError, RefusedError)):
        connect_client(port=port(server), token="secret")


@pytest.mark.usefixtures("closed_soon")
@pytest.mark.parametrize(
    "data", [b"", b"0000", b"000fff(", b'00001d(call 1 dualstack-auth ("n"))\n']
)
def test_a_client_that_dawdles_is_closed(data: bytes) -> None:
    with serving(token="secret") as server, Raw(server) as raw:
        raw.sock.sendall(data)
        start = time.monotonic()
        while raw.receive() is not None:
            pass
        assert time.monotonic() - start < 20


def test_the_time_for_a_proof_is_5_seconds() -> None:
    assert peer.AUTH_TIMEOUT == 5


def test_a_large_frame_before_the_proof_is_refused() -> None:
    with serving(token="secret") as server, Raw(server) as raw:
        raw.sock.sendall(b"ffffff")
        assert raw.receive() is None


@contextlib.contextmanager
def relay(family: socket.AddressFamily, to: tuple[str, int]) -> Iterator[int]:
    """Listen at the port of TO on the other family, and pass everything on; give the port."""
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", to[1]))
    listener.listen()
    passed: list[socket.socket] = []

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(to)
                passed.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield to[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for sock in passed:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.mark.parametrize("real", ["ipv4", "ipv6"])
def test_who_passes_the_proof_on_is_neither_side(real: str) -> None:
    other = socket.AF_INET6 if real == "ipv4" else socket.AF_INET
    called: list[int] = []
    with serving(token="secret", family=real) as server:
        server.register_function(lambda: called.append(1), "count")
        with (
            relay(other, server.server_address) as port,
            pytest.raises(AuthenticationError, match="another program"),
        ):
            connect_client("127.0.0.1" if real == "ipv6" else "::1", port, token="secret")
        assert not called


def test_both_ends_of_a_forwarded_port_name_a_label() -> None:
    with serving(token="secret", family="ipv4") as server:
        server.label = "build"
        with relay(socket.AF_INET6, server.server_address) as port:
            with connect_client("::1", port, token="secret", label="build") as client:
                assert client.call_sync("echo", [1], 30) == [1]
            with pytest.raises(AuthenticationError):
                connect_client("::1", port, token="secret", label="other")
