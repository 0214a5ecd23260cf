# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that do not prove themselves, and methods that do their worst, starve nobody."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dualstack_epc.net.log import Tally
from dualstack_epc.rpc import core
from dualstack_epc.rpc.client import connect as connect_client
from dualstack_epc.rpc.errors import ConnectionClosedError
from dualstack_epc.wire.frames import encode_frame

from conftest import wait_until
from epc_server import Raw, port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dualstack_epc.drop_in.server import DualStackEPCServer


@contextlib.contextmanager
def idle(host: str, number: int, count: int) -> Iterator[list[socket.socket]]:
    """Hold COUNT connections to NUMBER of HOST that say nothing."""
    sockets = []
    try:
        for _ in range(count):
            sockets.append(socket.create_connection((host, number), 10))  # noqa: PERF401, closed
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def test_500_idle_strangers_have_64_places_and_leave_room_for_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = threading.active_count()
    with serving(token="secret") as server:
        start = time.monotonic()
        with idle("127.0.0.1", port(server), 500) as sockets:
            with connect_client("127.0.0.1", port(server), token="secret") as client:
                assert client.call_sync("echo", [1], 30) == [1]
            wait_until(lambda: threading.active_count() <= before + core.STRANGERS + 4)
            # The oldest are those that are gone.
            sockets[0].settimeout(30)
            assert sockets[0].recv(1) == b""
            sockets[-1].settimeout(0.05)
            with pytest.raises(TimeoutError):
                sockets[-1].recv(1)
        seconds = time.monotonic() - start
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) <= seconds + 8
    assert any("others" in record.getMessage() for record in warnings)


def test_a_flood_at_one_address_does_not_shut_the_other_out() -> None:
    with serving(token="secret") as server:
        stop = threading.Event()

        def flood() -> None:
            sockets: list[socket.socket] = []
            while not stop.is_set():
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port(server)))
                sockets.append(sock)
                if len(sockets) > 500:
                    sockets.pop(0).close()
            for sock in sockets:
                sock.close()

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(5):
                start = time.monotonic()
                with connect_client("::1", port(server), token="secret") as client:
                    assert client.call_sync("echo", [1], 30) == [1]
                assert time.monotonic() - start < 20
        finally:
            stop.set()
            thread.join()


def test_proven_clients_are_never_closed_for_strangers() -> None:
    with (
        serving(token="secret") as server,
        connect_client("127.0.0.1", port(server), token="secret") as client,
    ):
        with idle("127.0.0.1", port(server), 200), idle("::1", port(server), 200):
            assert client.call_sync("echo", [1], 30) == [1]
        assert client.call_sync("echo", [2], 30) == [2]


def test_addresses_are_accepted_from_by_turns() -> None:
    from dualstack_epc.net.listener import open_listener  # noqa: PLC0415

    with open_listener() as listener, contextlib.ExitStack() as stack:
        for host in ["127.0.0.1"] * 6 + ["::1"] * 3:
            stack.enter_context(socket.create_connection((host, listener.port), 10))
        families = []
        for _ in range(9):
            accepted = listener.accept(5)
            assert accepted
            stack.enter_context(accepted[0])
            families.append(accepted[0].family)
        assert families[:6].count(socket.AF_INET6) == 3


def test_a_tally_logs_a_line_at_once_and_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally = Tally(0.05)
    for number in range(1000):
        tally.add(f"stranger {number}")
    tally.flush()
    tally.flush()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "stranger 0"
    assert lines[-1].startswith("stranger 999 (and ")
    assert len(lines) <= 10


class HostileText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("getitem")

    def encode(self, *_args: Any, **_options: Any) -> bytes:  # noqa: D102
        raise RuntimeError("encode")


class HostileError(Exception):
    def __repr__(self) -> str:
        return HostileText("hostile")

    def __str__(self) -> str:
        return HostileText("hostile")


def raise_hostile() -> None:
    raise HostileError


@pytest.mark.parametrize("fault", ["handle_error", "stderr", "repr", "get_method"])
def test_a_call_gets_its_reply_when_the_error_path_fails(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(log_traceback=True) as server, Raw(server) as raw:
        server.register_function(raise_hostile, "fail")
        if fault == "handle_error":

            def handle_error(_self: Any, _error: BaseException) -> None:
                raise SystemExit

            monkeypatch.setattr(server.RequestHandlerClass, "handle_error", handle_error)
        elif fault == "stderr":
            stream = io.StringIO()
            stream.close()
            monkeypatch.setattr(sys, "stderr", stream)
        elif fault == "get_method":

            def get_method(name: str) -> Any:
                if name == "fail":
                    raise KeyboardInterrupt
                return server.funcs[name]

            monkeypatch.setattr(server, "get_method", get_method)
        # As many as can run at once, so that one that is stuck is seen.
        for uid in range(200):
            raw.send(f"(call {uid} fail ())")
        replies = [raw.receive() for _ in range(200)]
        assert sorted(reply[1] for reply in replies) == list(range(200))
        assert {str(reply[0]) for reply in replies} == {"return-error"}
        raw.send("(call 1000 echo (1))")
        assert raw.receive()[1:] == [1000, [1]]


class Classless:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise SystemExit


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit


class NamelessError(Exception, metaclass=Nameless):
    def __repr__(self) -> str:
        raise SystemExit


def raise_nameless() -> None:
    raise NamelessError


def test_a_hostile_class_costs_no_reply(server: DualStackEPCServer, raw: Raw) -> None:
    server.register_function(Classless, "make")
    server.register_function(raise_nameless, "fail")
    for uid, name in enumerate(["make", "fail"] * 2):
        raw.send(f"(call {uid} {name} ())")
        reply = raw.receive()
        assert (str(reply[0]), reply[1]) == ("return-error", uid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python 3.12, for forks with threads
@pytest.mark.parametrize("end", ["returns", "raises"])
def test_a_method_that_forks_has_one_reply(server: DualStackEPCServer, raw: Raw, end: str) -> None:
    def fork() -> int:
        child = os.fork()
        if child == 0 and end == "raises":
            raise ValueError
        return child

    server.register_function(fork, "fork")
    for uid in range(3):  # The second one may run where it was read.
        raw.send(f"(call {uid} fork ())")
        name, number, child = raw.receive()
        assert (str(name), number) == ("return", uid)
        assert child > 0
        assert os.waitpid(child, 0)[1] == 0
        raw.send(f"(call {uid + 10} echo (1))")
        assert raw.receive()[1:] == [uid + 10, [1]]


def test_a_server_that_has_not_proved_itself_sends_little() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            client, _ = stranger.accept()
            with client:
                client.sendall(b"001001")
                client.recv(4096)
                client.recv(4096)  # The end.

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionClosedError, match="4,096 are allowed"):
            connect_client("127.0.0.1", stranger.getsockname()[1], token="secret")
        thread.join()


def test_what_a_stranger_sends_forges_no_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for text in ["(a #<x\n2026 y\x1b[2J>)", "#s(\u2028\x07)", "(call 1 dualstack-auth (#<\x85>))"]:
        with serving(token="secret") as server, Raw(server) as raw:
            raw.send(text)
            raw.receive()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all(line.isprintable() and "closed, " in line for line in lines)
    assert "#<x\\n2026 y\\x1b[2J>" in lines[0]


def test_a_key_too_deep_to_hash_is_an_error_and_the_connection_lives(
    server: DualStackEPCServer, raw: Raw
) -> None:
    dotted = "(" + " ".join(["1"] * 1000) + " . 2)"
    for uid in range(70):
        raw.send(f"(call {uid} echo (#s(hash-table test equal data ({dotted} 1))))")
        reply = raw.receive()
        assert (str(reply[0]), reply[1]) == ("return-error", uid)
    raw.send("(call 1000 echo (1))")
    assert raw.receive()[1:] == [1000, [1]]
    assert server.clients


def test_out_of_memory_in_parsing_is_an_error(
    server: DualStackEPCServer, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualstack_epc.wire import reader  # noqa: PLC0415

    def decode(payload: bytes, *types: Any, **options: Any) -> Any:
        if b"large" in payload:
            raise MemoryError
        return reader.decode_value(payload, *types, **options)

    monkeypatch.setattr("dualstack_epc.wire.messages.decode_value", decode)
    raw.sock.sendall(encode_frame(b"(call 1 large ())") + encode_frame(b"(call 2 echo (1))"))
    replies = [raw.receive(), raw.receive()]
    assert sorted(reply[1] for reply in replies) == [1, 2]
    assert server.clients
