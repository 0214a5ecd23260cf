# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's threads, queues and memory are bounded by, and its load."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dualstack_epc.rpc import dispatch
from dualstack_epc.rpc.client import connect as connect_client
from dualstack_epc.wire.frames import encode_frame
from dualstack_epc.wire.lisp import Symbol

from conftest import HOSTS, wait_until
from epc_server import Raw, port, serving
from wine import on_wine

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dualstack_epc.drop_in.server import DualStackEPCServer


def test_threads_are_bounded_however_many_calls_come(server: DualStackEPCServer, raw: Raw) -> None:
    before = threading.active_count()
    release = threading.Event()
    server.register_function(lambda: release.wait(30), "wait")
    total = 2000
    stream = b"".join(encode_frame(b"(call %d wait ())" % i) for i in range(total))
    sender = threading.Thread(target=raw.sock.sendall, args=(stream,))
    sender.start()
    wait_until(lambda: server.pool.size == 64)
    assert threading.active_count() <= before + 64 + 2
    release.set()
    assert sorted(raw.receive()[1] for _ in range(total)) == list(range(total))
    sender.join()


def test_a_client_that_calls_too_much_is_not_read_from(
    server: DualStackEPCServer, raw: Raw
) -> None:
    release = threading.Event()
    server.register_function(lambda _x: release.wait(30), "wait")
    frame = encode_frame(b'(call 1 wait ("' + b"x" * 100_000 + b'"))')
    sent: list[int] = []

    def send() -> None:
        for i in range(2000):
            raw.sock.sendall(frame)
            sent.append(i)

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: server.clients)
    gate = server.clients[0].peer._gate
    wait_until(lambda: len(gate._waiting) == dispatch.WAITING)
    # What is not held by the gate is in the kernel's buffers, or not sent yet.
    assert len(sent) < 1000
    release.set()
    assert [raw.receive()[2] for _ in range(2000)] == [True] * 2000
    sender.join()


def test_one_client_does_not_keep_others_waiting(server: DualStackEPCServer) -> None:
    release = threading.Event()
    server.register_function(lambda: release.wait(30), "wait")
    with Raw(server) as hog:
        for uid in range(300):
            hog.send(f"(call {uid} wait ())")
        with connect_client(port=port(server)) as client:
            assert client.call_sync("echo", [1], 30) == [1]
        release.set()


def test_a_client_that_never_reads_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(send_timeout=0.3) as server:
        server.register_function(lambda: "x" * 8_000_000, "big")
        with Raw(server) as raw:
            for uid in range(10):
                raw.send(f"(call {uid} big ())")
            wait_until(lambda: not server.clients)
        wait_until(lambda: server.pool._idle == server.pool.size)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors to set")
def test_out_of_descriptors_accepting_pauses_and_goes_on(server: DualStackEPCServer) -> None:
    with connect_client(port=port(server)) as first:
        first.call_sync("echo", [], 30)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        waiting = socket.socket()
        spare: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            with contextlib.suppress(OSError):
                while True:
                    spare.append(os.dup(0))
            assert len(spare) < 256
            waiting.connect(("127.0.0.1", port(server)))
            usage = time.process_time()
            assert first.call_sync("echo", [2], 30) == [2]
            time.sleep(0.3)  # What is measured is how little is done in a time.
            assert time.process_time() - usage < 0.2
        finally:
            for descriptor in spare:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with waiting:
            waiting.sendall(encode_frame(b"(call 1 echo (1))"))
            assert waiting.recv(100) == encode_frame(b"(return 1 (1))\n")


# Load


@pytest.mark.timeout(240)  # Wine needs a minute or two.
def test_soak() -> None:
    """200 clients on both families make 50,000 calls, and each gets its own replies.

    Under Wine, whose threads are slow to take turns, they are 50.
    """
    with serving() as server:
        wrong: list[Any] = []
        sizes: list[int] = []

        def work(number: int) -> None:
            with Raw(server, "ipv4" if number % 2 else "ipv6") as raw:
                for start in range(0, 250, 25):
                    for i in range(start, start + 25):
                        raw.send(f'(call {i} echo ({number} {i} "{i * "x"}"))')
                    replies = {reply[1]: reply[2] for reply in (raw.receive() for _ in range(25))}
                    expected = {i: [number, i, i * "x"] for i in range(start, start + 25)}
                    if replies != expected:
                        wrong.append((number, start))

        def run(numbers: range) -> None:
            threads = [threading.Thread(target=work, args=(n,)) for n in numbers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            wait_until(lambda: not server.clients)
            gc.collect()
            sizes.append(len(gc.get_objects()))

        run(range(50 if on_wine() else 200))
        assert not wrong
        # What one client leaves behind, more would leave more of.
        run(range(20))
        run(range(20))
        assert sizes[2] < sizes[1] + 500


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process have COUNT descriptors, or skip the test; Windows has no limit."""
    if sys.platform == "win32":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"needs {count} file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_1000_connections_on_each_family() -> None:
    with descriptors(5000):
        with serving() as server:
            raws = [Raw(server, family) for family in HOSTS for _ in range(1000)]
            for raw in raws:
                raw.send("(call 1 echo (1))")
            assert all(raw.receive() == [Symbol("return"), 1, [1]] for raw in raws)
            assert len(server.clients) == 2000
            for raw in raws:
                raw.sock.close()


def test_100_000_raw_inputs() -> None:
    """Whatever is in a frame, it gets at most one reply, and the connection lives.

    Under Wine, where each reply takes 2 ms to send, they are a fifth.
    """
    import random  # noqa: PLC0415

    rng = random.Random(3)
    pieces = [
        b"(call ",
        b"(methods ",
        b"(return ",
        b"(epc-error ",
        b"1",
        b" echo ",
        b"(",
        b")",
        b'"x"',
        b" nil",
        b"\xff",
        b"\\",
        b'"',
        b"#",
        b" . ",
    ]
    with serving() as server, Raw(server) as raw:
        server.logger.disabled = True
        try:
            for batch in range(20 if on_wine() else 100):
                data = []
                for _ in range(1000):
                    payload = b"".join(rng.choices(pieces, k=rng.randrange(12)))
                    data.append(encode_frame(payload))
                marker = 10_000 + batch
                data.append(encode_frame(b"(call %d echo ())" % marker))
                sender = threading.Thread(target=raw.sock.sendall, args=(b"".join(data),))
                sender.start()
                count = 0
                while raw.receive()[1] != marker:
                    count += 1
                sender.join()
                assert count <= 1000
        finally:
            server.logger.disabled = False
