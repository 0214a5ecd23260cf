# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls in both directions, and the ends of connections."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from epc.handler import EPCClosed, EPCError, ReturnError

from dualstack_epc.drop_in.server import current_client
from dualstack_epc.rpc.answers import CloseAfter
from dualstack_epc.rpc.client import Client
from dualstack_epc.rpc.client import connect as connect_client
from dualstack_epc.rpc.errors import (
    CallTimeoutError,
    ConnectionClosedError,
    MethodError,
)
from dualstack_epc.wire.lisp import Cons, Symbol

from conftest import HOSTS, wait_until
from epc_server import Raw, port, serving

if TYPE_CHECKING:
    from dualstack_epc.drop_in.server import DualStackEPCServer


def test_calls_nest_in_both_directions(server: DualStackEPCServer, client: Client) -> None:
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + int(client.call_sync("up", [n - 1], 30))

    client.functions["down"] = down
    server.register_function(
        lambda n: 0 if n == 0 else 1 + server.clients[0].call_sync("down", [n - 1], 30), "up"
    )
    assert client.call_sync("up", [64], 30) == 64


def test_calls_that_call_back_do_not_keep_others_waiting(raw: Raw) -> None:
    for uid in range(1, 501):
        raw.send(f"(call {uid} call_back (ask {uid}))")
    asked = [raw.receive() for _ in range(500)]  # None of them has its reply yet.
    assert {message[0] for message in asked} == {Symbol("call")}
    raw.send("(call 999 echo ())")
    assert raw.receive() == [Symbol("return"), 999, []]
    for message in asked:
        raw.send(f"(return {message[1]} {message[3][0]})")
    done = dict(raw.receive()[1:] for _ in range(500))
    assert done == {uid: uid for uid in range(1, 501)}


def test_replies_do_not_wait_behind_calls(server: DualStackEPCServer, raw: Raw) -> None:
    answers: dict[int, Any] = {}
    answered = threading.Event()

    def ask(number: int) -> int:  # It waits in a way that nobody can see.
        server.clients[0].call("ask", [number], lambda value: answers.update({number: value}))
        answered.wait(20)
        return number

    server.register_function(ask)
    for uid in range(1, 321):
        raw.send(f"(call {uid} ask ({uid}))")
    asked = [raw.receive() for _ in range(64)]
    # The gate is full now; a call more is refused in the end, as reading must go on for replies.
    raw.send("(call 999 echo ())")
    refused = raw.receive()
    assert refused[:2] == [Symbol("return-error"), 999]
    assert "busy" in refused[2]
    for message in asked:
        raw.send(f"(return {message[1]} {message[3][0]})")
    wait_until(lambda: len(answers) == 64)
    answered.set()


def test_a_call_ends_when_the_peer_leaves(server: DualStackEPCServer, raw: Raw) -> None:
    raw.send("(call 1 echo ())")
    raw.receive()
    handler = server.clients[0]
    future = handler.call_future("never", [])
    raw.receive()
    threading.Timer(0.05, lambda: raw.sock.shutdown(socket.SHUT_RDWR)).start()
    with pytest.raises(ConnectionClosedError):
        handler.call_sync("never", [], 30)
    with pytest.raises(EPCClosed):  # It is python-epc's as well.
        future.result(30)
    wait_until(lambda: not server.clients)
    with pytest.raises(ConnectionClosedError):
        handler.call_sync("never", [], 30)
    assert not handler.peer.pending


def test_a_call_that_times_out_leaves_nothing(
    server: DualStackEPCServer, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    raw.send("(call 1 echo ())")
    raw.receive()
    handler = server.clients[0]
    with pytest.raises(CallTimeoutError) as caught:
        handler.call_sync("slow", [], 0.05)
    assert isinstance(caught.value, TimeoutError)
    assert not handler.peer.pending
    uid = raw.receive()[1]
    raw.send(f"(return {uid} late)")
    raw.send("(call 2 echo ())")
    assert raw.receive() == [Symbol("return"), 2, []]
    assert "CallerUnknown" in caplog.text


def test_a_future_that_is_cancelled_leaves_nothing(server: DualStackEPCServer, raw: Raw) -> None:
    raw.send("(call 1 echo ())")
    raw.receive()
    handler = server.clients[0]
    future = handler.call_future("slow", [])
    assert future.cancel()
    assert not handler.peer.pending


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ('(return-error {} "why")', ReturnError), ('(epc-error {} "why")', EPCError), ("(return {})", EPCError), ("(return {} 1 2)", EPCError),
        ('(return {} "\\xd800")', EPCError), ("(return {} #<x>)", EPCError), ("(return-error {})", ReturnError),
    ],
)  # fmt: skip
def test_every_reply_ends_its_call(
    server: DualStackEPCServer, raw: Raw, reply: str, error: type[Exception]
) -> None:
    raw.send("(call 1 echo ())")
    raw.receive()
    future = server.clients[0].call_future("method", [])
    raw.send(reply.format(raw.receive()[1]))
    with pytest.raises(error):
        future.result(30)


def test_a_method_knows_its_caller(server: DualStackEPCServer, client: Client) -> None:
    client.functions["who"] = lambda: "me"
    server.register_function(lambda: current_client().call_sync("who", [], 30), "ask")
    with connect_client(port=server.server_address[1]) as other:
        other.functions["who"] = lambda: "another"
        assert client.call_sync("ask", [], 30) == "me"
        assert other.call_sync("ask", [], 30) == "another"
    with pytest.raises(LookupError):
        current_client()


def test_callbacks_may_call_again(server: DualStackEPCServer, client: Client) -> None:
    client.functions["twice"] = lambda x: x * 2
    client.call_sync("echo", [], 30)
    handler = server.clients[0]
    results: list[Any] = []
    handler.call(
        "twice", [4], lambda value: results.append(handler.call_sync("twice", [value], 30))
    )
    handler.call("nonesuch", [], None, results.append)
    wait_until(lambda: len(results) == 2)
    assert 16 in results
    assert any(isinstance(result, EPCError) for result in results)


def test_values_that_python_epc_confuses_cross(client: Client) -> None:
    value = [
        Cons(1, 2),
        Symbol("1_000"),
        float("inf"),
        b"\xff",
        "x\0y",
        Symbol("a b"),
        10**5000,
        [[]],
    ]
    assert client.call_sync("echo", value, 5) == value


def test_close_after_replies_first(server: DualStackEPCServer, raw: Raw) -> None:
    server.register_function(lambda: CloseAfter("bye"), "leave")
    raw.send("(call 1 leave ())")
    raw.send("(call 2 echo ())")
    replies = []
    while (reply := raw.receive()) is not None:
        replies.append(reply)
    assert [Symbol("return"), 1, "bye"] in replies
    raw.sock.close()
    wait_until(lambda: not server.clients)


def test_closing_a_client_closes(server: DualStackEPCServer) -> None:
    client = connect_client(port=port(server))
    client.call_sync("echo", [], 30)
    client.close()
    wait_until(lambda: not server.clients)


def test_server_close_ends_connections_and_threads() -> None:
    with serving() as server:
        raws = [Raw(server, family) for family in HOSTS for _ in range(20)]
        for raw in raws:
            raw.send("(call 1 echo ())")
            raw.receive()
    assert not server.clients
    for raw in raws:
        assert raw.receive() is None
        raw.sock.close()


def test_payloads_are_not_logged(
    server: DualStackEPCServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.call_sync("echo", ["secret"], 30)
    server.register_function(lambda _x: 1 / 0, "fail")
    with pytest.raises(MethodError):
        client.call_sync("fail", ["secret"], 30)
    assert "secret" not in caplog.text
