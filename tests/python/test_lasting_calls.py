# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that last: cancelled, with progress, on the event loop, in both directions."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dualstack_epc.rpc import loop as loops
from dualstack_epc.rpc.dispatch import WorkerPool
from dualstack_epc.rpc.errors import (
    CallCancelledError,
    CallTimeoutError,
    ConnectionClosedError,
    MethodError,
)
from dualstack_epc.rpc.handler import current_client
from dualstack_epc.rpc.peer import Peer, Service
from dualstack_epc.rpc.running import current_call
from dualstack_epc.wire.frames import encode_frame
from dualstack_epc.wire.lisp import Symbol

from conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from dualstack_epc.drop_in.server import DualStackEPCServer
    from dualstack_epc.rpc.client import Client

    from epc_server import Raw

OURS = "\t"  # the margin of an end that is of this package
WANTS_PROGRESS = "\t\t"


def send(raw: Raw, text: str, margin: str = OURS) -> None:
    """Send TEXT as an end of this package does."""
    raw.send(f"{text}{margin}\n")


def receive(raw: Raw) -> Any:
    """Return the next message that is not the greeting."""
    while (message := raw.receive())[:2] == [Symbol("return"), 0]:
        pass
    return message


# Cancelling


def test_a_cancelled_coroutine_gets_cancelled_error(
    server: DualStackEPCServer, client: Client
) -> None:
    started, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    server.register_function(wait)
    assert client.call_sync("echo", [1], 30) == [1]
    future = client.call_future("wait", [])
    assert started.wait(30)
    assert future.cancel()
    assert ended.wait(30)
    assert client.call_sync("echo", [2], 30) == [2]


def test_a_timeout_cancels_at_the_other_end(server: DualStackEPCServer, client: Client) -> None:
    cancelled = threading.Event()

    def poll() -> None:
        call = current_call()
        while not call.cancelled:
            time.sleep(0.005)
        cancelled.set()

    server.register_function(poll)
    with pytest.raises(CallTimeoutError):
        client.call_sync("poll", [], 0.1)  # The very first call, too.
    assert cancelled.wait(30)


def test_a_cancelled_function_cannot_call_back(server: DualStackEPCServer, client: Client) -> None:
    entered = threading.Event()
    errors: list[BaseException] = []
    called: list[int] = []
    client.functions["tick"] = called.append

    def busy() -> None:
        handler = current_client()
        entered.set()
        while not current_call().cancelled:
            time.sleep(0.005)
        try:
            handler.call_sync("tick", [1], 30)
        except CallCancelledError as error:
            errors.append(error)

    server.register_function(busy)
    future = client.call_future("busy", [])
    assert entered.wait(30)
    future.cancel()
    wait_until(lambda: errors)
    assert not called


def test_a_call_is_cancelled_there_once_the_peer_is_known() -> None:
    ours, theirs = socket.socketpair()
    pool = WorkerPool()
    peer = Peer(ours, Service(), pool, begins=True)
    thread = threading.Thread(target=peer.run)
    thread.start()
    with theirs:
        theirs.settimeout(10)
        peer.call("wait", []).cancel()
        assert b"(call 1 wait" in theirs.recv(100)
        theirs.sendall(encode_frame(b"(return 0 t)\t\n"))
        assert b"(call 0 dualstack-cancel (1))" in theirs.recv(100)
    thread.join(10)
    pool.close()
    ours.close()


def test_a_cancelled_function_stops_waiting_for_the_client(
    server: DualStackEPCServer, client: Client
) -> None:
    release, entered = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def never() -> None:
        entered.set()
        release.wait(20)

    def ask() -> None:
        try:
            current_client().call_sync("never", [])
        except CallCancelledError as error:
            errors.append(error)

    client.functions["never"] = never
    server.register_function(ask)
    future = client.call_future("ask", [])
    assert entered.wait(30)
    future.cancel()
    wait_until(lambda: errors)
    release.set()


def test_a_cancelled_generator_is_closed(server: DualStackEPCServer, client: Client) -> None:
    entered, closed = threading.Event(), threading.Event()

    def count() -> Iterator[int]:
        try:
            while True:
                entered.set()
                yield 1
                time.sleep(0.005)
        finally:
            closed.set()

    server.register_function(count)
    future = client.call_future("count", [])
    assert entered.wait(30)
    future.cancel()
    assert closed.wait(30)


def test_a_call_that_waits_for_its_turn_never_runs(
    server: DualStackEPCServer, client: Client
) -> None:
    release = threading.Event()
    ran: list[int] = []
    server.register_function(lambda: release.wait(20), "block")
    server.register_function(ran.append, "run")
    blockers = [client.call_future("block", []) for _ in range(64)]
    held = client.call_future("run", [1])  # held back here
    assert held.cancel()
    release.set()
    for each in blockers:
        each.result(30)
    assert client.call_sync("run", [2], 30) == []
    assert ran == [2]


def test_the_reply_to_a_cancelled_call_is_dropped_without_a_word(
    server: DualStackEPCServer, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    send(raw, "(call 1 echo ())")
    assert receive(raw)[0] == Symbol("return")
    future = server.clients[0].call_future("slow", [])
    uid = receive(raw)[1]
    future.cancel()
    assert receive(raw)[2:] == [Symbol("dualstack-cancel"), [uid]]
    send(raw, f"(return {uid} late)")
    send(raw, "(call 2 echo ())")
    assert receive(raw) == [Symbol("return"), 2, []]
    assert not caplog.records
    assert not server.clients[0].peer.pending


def test_a_stock_client_is_shown_nothing(server: DualStackEPCServer, raw: Raw) -> None:
    raw.send("(call 1 echo ())\n")
    assert raw.receive_payload() == b"(return 1 nil)\n"
    future = server.clients[0].call_future("slow", [])
    assert raw.receive_payload() == b"(call 1 slow nil)\n"
    future.cancel()

    def count() -> Iterator[int]:
        yield from range(3)

    server.register_function(count)
    raw.send("(call 2 count ())\n")
    assert raw.receive_payload() == b"(return 2 nil)\n"


def test_the_end_of_the_connection_cancels(server: DualStackEPCServer, client: Client) -> None:
    started, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    server.register_function(wait)
    future = client.call_future("wait", [])
    assert started.wait(30)
    client.close()
    with pytest.raises(ConnectionClosedError):
        future.result(30)
    assert ended.wait(30)


# Progress


def progress(raw: Raw, uid: int) -> tuple[list[Any], Any]:
    """Return what is reported for the call UID, each of which is answered, and its reply."""
    values: list[Any] = []
    while True:
        message = receive(raw)
        if message[0] != Symbol("call"):
            return values, message
        assert message[2] == Symbol("dualstack-progress")
        assert message[3][0] == uid
        values.append(message[3][1])
        send(raw, f"(return {message[1]} t)")


@pytest.mark.parametrize("margin", [OURS, WANTS_PROGRESS])
def test_what_a_generator_yields_is_reported_if_it_is_wanted(
    server: DualStackEPCServer, raw: Raw, margin: str
) -> None:
    def count(most: int) -> Generator[Any, None, str]:
        for number in range(most):
            yield {"done": number}
        return "end"

    async def count_async(most: int) -> AsyncIterator[Any]:
        for number in range(most):
            await asyncio.sleep(0)
            yield {"done": number}

    server.register_function(count)
    server.register_function(count_async)
    wanted = [[Symbol(":done"), number] for number in range(100)] if margin != OURS else []
    send(raw, "(call 7 count (100))", margin)
    assert progress(raw, 7) == (wanted, [Symbol("return"), 7, "end"])
    send(raw, "(call 8 count_async (100))", margin)
    assert progress(raw, 8) == (wanted, [Symbol("return"), 8, []])


def test_a_generator_waits_for_a_client_that_is_slow(server: DualStackEPCServer, raw: Raw) -> None:
    yielded: list[int] = []

    def count() -> Iterator[int]:
        for number in range(1000):
            yielded.append(number)
            yield number

    server.register_function(count)
    send(raw, "(call 1 count ())", WANTS_PROGRESS)
    first = [receive(raw) for _ in range(17)]
    time.sleep(0.1)
    assert len(yielded) < 40
    for message in first:
        send(raw, f"(return {message[1]} t)")
    assert progress(raw, 1)[0] == list(range(17, 1000))


def test_errors_of_generators_are_replies(server: DualStackEPCServer, raw: Raw) -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("so")

    def unsendable() -> Iterator[object]:
        yield object()

    server.register_function(fail)
    server.register_function(unsendable)
    send(raw, "(call 1 fail ())", WANTS_PROGRESS)
    assert progress(raw, 1) == ([1], [Symbol("return-error"), 1, "ValueError('so')"])
    send(raw, "(call 2 unsendable ())", WANTS_PROGRESS)
    values, reply = progress(raw, 2)
    assert not values
    assert "object object" in reply[2]


def test_an_iterator_of_a_function_is_a_list(server: DualStackEPCServer, client: Client) -> None:
    server.register_function(lambda: (number for number in range(3)), "numbers")
    assert client.call_sync("numbers", [], 30) == [0, 1, 2]


# async def


def test_coroutines_run_on_one_loop(server: DualStackEPCServer, client: Client) -> None:
    loops_seen, together = set(), asyncio.Event()

    async def meet(count: int) -> int:
        loops_seen.add(asyncio.get_running_loop())
        arrived.append(count)
        if len(arrived) == 10:
            together.set()
        await together.wait()
        return count

    arrived: list[int] = []
    server.register_function(meet)
    server.register_function(functools.partial(meet), "partly")
    futures = [client.call_future(("meet", "partly")[n % 2], [n]) for n in range(10)]
    assert [future.result(30) for future in futures] == list(range(10))
    assert len(loops_seen) == 1


def test_a_coroutine_awaits_calls_of_the_client(server: DualStackEPCServer, client: Client) -> None:
    def twice(number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return 2 * number

    async def ask(*numbers: int) -> Any:
        caller = current_client()
        return await asyncio.gather(*(caller.call("twice", n) for n in numbers))

    client.functions["twice"] = twice
    server.register_function(ask)
    assert client.call_sync("ask", [1, 2, 3], 30) == [2, 4, 6]
    with pytest.raises(MethodError, match="negative"):
        client.call_sync("ask", [1, -1], 30)


def test_cancelling_a_coroutine_cancels_what_it_awaits(
    server: DualStackEPCServer, client: Client
) -> None:
    cancelled, entered = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        while not current_call().cancelled:
            time.sleep(0.005)
        cancelled.set()

    async def ask() -> None:
        await current_client().call("slow")

    client.functions["slow"] = slow
    server.register_function(ask)
    future = client.call_future("ask", [])
    assert entered.wait(30)
    future.cancel()
    assert cancelled.wait(30)


def test_a_blocked_loop_is_named(
    server: DualStackEPCServer,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "BLOCKED", 0.1)

    async def blocker() -> None:
        while "blocked" not in caplog.text:
            time.sleep(0.01)  # noqa: ASYNC251, that is what is logged

    server.register_function(blocker)
    with caplog.at_level(logging.WARNING):
        client.call_sync("blocker", [], 40)
    assert "by blocker" in caplog.text
    assert "test_lasting_calls.py" in caplog.text


def test_a_method_that_stops_the_loop_ends_in_errors(
    server: DualStackEPCServer, client: Client
) -> None:
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await asyncio.sleep(60)

    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)

    async def close() -> None:
        asyncio.get_running_loop().close()

    async def fine() -> str:
        return "fine"

    for function in (wait, stop, close, fine):
        server.register_function(function)
    waiting = client.call_future("wait", [])
    assert started.wait(30)
    with pytest.raises(MethodError, match="close a running event loop"):
        client.call_sync("close", [], 30)
    with pytest.raises(MethodError, match="event loop has ended"):
        client.call_sync("stop", [], 30)
    with pytest.raises(MethodError, match="event loop has ended"):
        waiting.result(30)
    assert client.call_sync("fine", [], 30) == "fine"


def test_a_loop_that_does_not_start_ends_in_errors(
    server: DualStackEPCServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fine() -> str:
        return "fine"

    def fail() -> None:
        raise OSError("no descriptor left")

    server.register_function(fine)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", fail)
        with pytest.raises(MethodError, match="no descriptor left"):
            client.call_sync("fine", [], 30)
    assert client.call_sync("fine", [], 30) == "fine"


def test_threads_go_on_while_the_loop_is_blocked(
    server: DualStackEPCServer, client: Client
) -> None:
    release, entered = threading.Event(), threading.Event()

    async def blocker() -> None:
        entered.set()
        release.wait(20)

    server.register_function(blocker)
    future = client.call_future("blocker", [])
    assert entered.wait(30)
    assert client.call_sync("echo", [1], 30) == [1]
    release.set()
    future.result(30)


def test_calls_nest_256_deep(server: DualStackEPCServer, client: Client) -> None:
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + int(client.call_sync("up", [n - 1], 30))

    client.functions["down"] = down
    server.register_function(
        lambda n: 0 if n == 0 else 1 + server.clients[0].call_sync("down", [n - 1], 30), "up"
    )
    assert client.call_sync("up", [256], 60) == 256


# Calls that run where they were read


def test_a_quick_method_that_takes_long_holds_nobody_up(
    server: DualStackEPCServer, client: Client
) -> None:
    release = threading.Event()

    def maybe(slow: bool) -> bool:
        return release.wait(20) if slow else False

    server.register_function(maybe)
    for _ in range(5):  # It is known as quick after these.
        client.call_sync("maybe", [False], 30)
        client.call_sync("echo", [1], 30)
    futures = [client.call_future("maybe", [True]) for _ in range(5)]
    for number in range(20):
        assert client.call_sync("echo", [number], 30) == [number]
    release.set()
    assert [future.result(30) for future in futures] == [True] * 5
    assert client.call_sync("echo", [1], 30) == [1]


def test_a_quick_method_may_call_back(server: DualStackEPCServer, client: Client) -> None:
    def ask(back: bool) -> int:
        return current_client().call_sync("number", [], 30) if back else 0

    client.functions["number"] = lambda: 7
    server.register_function(ask)
    for _ in range(50):
        assert client.call_sync("ask", [False], 30) == 0
        assert client.call_sync("ask", [True], 30) == 7


def test_the_end_is_seen_while_a_quick_method_takes_long(
    server: DualStackEPCServer, client: Client
) -> None:
    cancelled = threading.Event()

    def maybe(slow: bool) -> None:
        call = current_call()
        while slow and not call.cancelled:
            time.sleep(0.005)
        if slow:
            cancelled.set()

    server.register_function(maybe)
    for _ in range(5):
        client.call_sync("maybe", [False], 30)
    client.call_future("maybe", [True])
    client.close()
    assert cancelled.wait(30)
    wait_until(lambda: not server.clients)
