# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs the calls: a pool of threads for the server, and a gate for each connection.

The pool makes threads as they are needed and lets them go when they are not.  The gate bounds what
one client can have running and waiting, so that it cannot take up every thread.  Replies pass
through neither: a call that waits for one would wait for itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque

from dualstack_epc.net.light import Empty, SimpleQueue

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable

    from dualstack_epc.rpc.loop import EventLoop

    Job = Callable[[], None]

WORKERS = 1024  # threads of a server; calls that call back hold one each
IDLE = 10.0  # seconds until a thread without work ends
RUNNING = 64  # calls of one connection that run at once
WAITING = 256  # calls of one connection that wait for those
WAITING_BYTES = 64 * 1024 * 1024  # and how much they may hold


class WorkerPool:
    """Threads that run jobs."""

    def __init__(self, limit: int = WORKERS, idle: float = IDLE) -> None:
        """Use up to LIMIT threads, which end after IDLE seconds without work."""
        self._limit = limit
        self._idle_time = idle
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._queued = 0
        self._closed = False

    def submit(self, job: Job) -> None:
        """Run JOB, which must not raise, in a thread; after `close`, do nothing."""
        with self._lock:
            if self._closed:
                return
            self._queued += 1
            if self._queued > self._idle and len(self._threads) < self._limit:
                thread = threading.Thread(
                    target=self._work, name="dualstack-epc worker", daemon=True
                )
                self._threads.add(thread)
                try:
                    thread.start()
                except (
                    RuntimeError
                ):  # The system has no more threads; those that are there must do.
                    self._threads.discard(thread)
                    if not self._threads:
                        self._queued -= 1
                        raise
        self._jobs.put(job)

    def _work(self) -> None:
        """Run jobs until there are none for a while."""
        while True:
            with self._lock:
                self._idle += 1
            try:
                job = self._jobs.get(timeout=self._idle_time)
            except Empty:
                job = None
            with self._lock:
                self._idle -= 1
                if job is not None:
                    self._queued -= 1
                elif self._closed or self._queued <= self._idle:
                    self._threads.discard(threading.current_thread())
                    return
            if job is not None:
                with contextlib.suppress(BaseException):  # It must not raise; if it does, we go on.
                    job()
                # What the job held, such as a large value, is not kept while this waits.
                del job

    @property
    def size(self) -> int:
        """The number of threads."""
        return len(self._threads)

    def close(self, timeout: float = 1.0) -> None:
        """End the threads, and wait up to TIMEOUT seconds for those that run a job."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)


class LazyLoop:
    """The event loop of a server or client, which is made when it is used."""

    def __init__(self) -> None:
        """Make nothing yet."""
        self._loop: EventLoop | None = None
        self._lock = threading.Lock()

    def get(self) -> EventLoop:
        """Return the loop."""
        with self._lock:
            if self._loop is None:
                # asyncio takes 40 ms to load, which only its users should pay for.
                from dualstack_epc.rpc.loop import EventLoop  # noqa: PLC0415

                self._loop = EventLoop()
            return self._loop

    def close(self) -> None:
        """Cancel what runs on the loop, and end it, if it was made."""
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.close()


class CallGate:
    """Lets one connection's calls through to a pool, a limited number at once."""

    def __init__(self, pool: WorkerPool, running: int = RUNNING, waiting: int = WAITING) -> None:
        """Let RUNNING calls run in POOL and WAITING ones wait."""
        self._pool = pool
        self._running_limit = running
        self._waiting_limit = waiting
        self._waiting: deque[tuple[Job, int]] = deque()
        self._running = 0
        self._bytes = 0
        self._closed = False
        # A `Condition` of its own takes longer than all the rest of a small call's way through.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._watchers = 0  # threads that wait for a change

    def offer(self, job: Job, size: int) -> bool:
        """Take JOB, which holds SIZE bytes and must not raise; return False if there is no room.

        Raise RuntimeError if the system has no thread to run it.
        """
        with self._lock:
            if self._running >= self._running_limit:
                if not self._has_room(size):
                    return False
                self._waiting.append((job, size))
                self._bytes += size
                return True
            self._running += 1
        try:
            self._pool.submit(lambda: self._run(job))
        except RuntimeError:
            with self._lock:
                self._running -= 1
            raise
        return True

    def enter(self) -> bool:
        """Take a place for a call that its reader runs; return False if others are before it.

        `leave` gives it up.
        """
        with self._lock:
            if self._running >= self._running_limit or self._waiting:
                return False
            self._running += 1
            return True

    def _has_room(self, size: int) -> bool:
        """Return whether a call that holds SIZE bytes may wait."""
        return len(self._waiting) < self._waiting_limit and (
            not self._waiting or self._bytes + size <= WAITING_BYTES
        )

    def _run(self, job: Job) -> None:
        """Run JOB, and then others that wait."""
        while True:
            with contextlib.suppress(BaseException):
                job()
            with self._lock:
                self._notify()
                # One that has come back from waiting may be one too many.
                if not self._waiting or self._closed or self._running > self._running_limit:
                    self._running -= 1
                    return
                job, size = self._waiting.popleft()
                self._bytes -= size

    def leave(self) -> None:
        """Let another call run in the place of one that has ended, or waits for the peer."""
        with self._lock:
            self._running -= 1
            if self._watchers:
                self._changed.notify_all()
            if not self._waiting or self._closed or self._running >= self._running_limit:
                return
            job, size = self._waiting.popleft()
            self._bytes -= size
            self._running += 1
        try:
            self._pool.submit(lambda: self._run(job))
        except RuntimeError:  # There are no more threads: it waits on, in front of the others.
            with self._lock:
                self._running -= 1
                self._waiting.appendleft((job, size))
                self._bytes += size

    def come_back(self) -> None:
        """Count a call again that waits for the peer no longer."""
        with self._lock:
            self._running += 1

    def wait_for_room(
        self, size: int, otherwise: Callable[[], bool], timeout: float | None = None
    ) -> None:
        """Wait until a call that holds SIZE bytes may wait here, or OTHERWISE is true.

        Whoever makes OTHERWISE true calls `wake`.  Give up after TIMEOUT seconds.
        """
        with self._lock:
            self._watchers += 1
            try:
                self._changed.wait_for(
                    lambda: self._closed or otherwise() or self._may_take(size), timeout
                )
            finally:
                self._watchers -= 1

    def _notify(self) -> None:
        """Make those who wait for a change look; the lock is held."""
        if self._watchers:
            self._changed.notify_all()

    def _may_take(self, size: int) -> bool:
        """Return whether a call that holds SIZE bytes may run or wait."""
        return self._running < self._running_limit or self._has_room(size)

    def wake(self) -> None:
        """Make `wait_for_room` look at its condition."""
        with self._lock:
            self._notify()

    def close(self) -> None:
        """Drop the calls that wait: nobody is there to hear their replies."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._notify()
