# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool of workers and the gate before it, without a socket."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.rpc import dispatch
from dualstack_epc.rpc.dispatch import CallGate, WorkerPool

from conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(limit=8, idle=0.2)
    yield pool
    pool.close()


def holding(release: threading.Event) -> dispatch.Job:
    """Return a job that ends when RELEASE is set."""

    def job() -> None:
        release.wait(30)

    return job


def test_every_job_runs(pool: WorkerPool) -> None:
    done: list[int] = []
    for i in range(1000):
        pool.submit(lambda i=i: done.append(i))  # type: ignore[misc]
    wait_until(lambda: len(done) == 1000)
    assert pool.size <= 8


def test_threads_are_reused_and_end_when_idle(pool: WorkerPool) -> None:
    names = set()
    for _ in range(50):
        ran = threading.Event()

        def job(ran: threading.Event = ran) -> None:
            names.add(threading.get_ident())
            ran.set()

        pool.submit(job)
        assert ran.wait(30)
    assert len(names) <= 8
    wait_until(lambda: pool.size == 0)


def test_a_gate_lets_a_limited_number_run_and_wait(pool: WorkerPool) -> None:
    gate = CallGate(pool, running=2, waiting=3)
    release = threading.Event()
    done: list[int] = []

    def job() -> None:
        release.wait(30)
        done.append(1)

    assert [gate.offer(job, 1) for _ in range(7)] == [True] * 5 + [False] * 2
    release.set()
    wait_until(lambda: len(done) == 5)
    assert gate.offer(lambda: done.append(2), 1)
    wait_until(lambda: len(done) == 6)


def test_a_gate_bounds_the_bytes_that_wait(pool: WorkerPool) -> None:
    gate = CallGate(pool, running=1, waiting=100)
    release = threading.Event()
    gate.offer(holding(release), 1)
    assert gate.offer(lambda: None, dispatch.WAITING_BYTES - 10)
    assert not gate.offer(lambda: None, 20)
    release.set()


def test_waiting_for_room_ends_with_room_or_with_the_condition(pool: WorkerPool) -> None:
    gate = CallGate(pool, running=1, waiting=1)
    release = threading.Event()
    flag = threading.Event()
    gate.offer(holding(release), 1)
    gate.offer(lambda: None, 1)
    waiter = threading.Thread(target=gate.wait_for_room, args=(1, flag.is_set))
    waiter.start()
    flag.set()
    gate.wake()
    waiter.join(5)
    assert not waiter.is_alive()
    release.set()
    gate.wait_for_room(1, lambda: False)


def test_a_closed_gate_drops_what_waits(pool: WorkerPool) -> None:
    gate = CallGate(pool, running=1, waiting=5)
    release = threading.Event()
    done: list[int] = []
    gate.offer(holding(release), 1)
    gate.offer(lambda: done.append(1), 1)
    gate.close()
    release.set()
    pool.close(5)
    assert not done
