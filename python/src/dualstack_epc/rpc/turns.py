# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reads a connection, where the thread that reads also runs quick calls.

To hand a call to another thread takes longer than most calls.  So one that was quick the last time
is run by the thread that has read it.  Where it takes longer than that after all, or waits for the
peer, a thread of the pool reads on meanwhile.
"""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = 0.001  # seconds of a call that is run where it was read the next time
SLOW = 0.005  # seconds after which another thread reads on
LINGER = 0.1  # seconds for which the watch goes on without such calls


class Turns:
    """The threads that read one connection, one at a time."""

    def __init__(
        self,
        read: Callable[[], bytes | None],
        act: Callable[[bytes], Callable[[], None] | None],
        submit: Callable[[Callable[[], None]], None],
    ) -> None:
        """Read payloads by READ, which returns None at the end, and take each to ACT.

        What ACT returns is called by the thread that reads.  SUBMIT runs a function in another.
        """
        self._read = read
        self._act = act
        self._submit = submit
        self._lock = threading.Lock()
        self._number = 0  # of the turn; whoever has another one reads no more
        self.over = False
        self._returned = threading.Event()  # the connection's own thread reads again
        self._leader_waits = False
        self.since: float | None = None  # when the thread that reads has begun to run a call

    def end(self) -> None:
        """Let every thread go: the end of the stream was read."""
        self.over = True
        self._returned.set()
        _watch.forget(self)

    def lead(self) -> None:
        """Read until the end, in the connection's own thread."""
        while not self.over:
            self._read_on(self._number)
            if not self.over:
                self._leader_waits = True
                self._returned.wait()
                self._returned.clear()
                self._leader_waits = False

    def take_over(self) -> None:
        """Have another thread read, if the one that reads is running a call."""
        with self._lock:
            if self.since is None or self.over:
                return
            self.since = None
            self._number += 1
            number = self._number
        self._submit(lambda: self._read_on(number))

    def _read_on(self, number: int) -> None:
        """Read and act while the turn is that of NUMBER."""
        while not self.over:
            payload = self._read()
            if payload is None:
                return
            job = self._act(payload)
            if job is not None:
                self.since = time.monotonic()
                if _watch.note(self):
                    job()
                else:  # There is no thread that could take over.
                    self.since = None
                    self._submit(job)
            with self._lock:
                if self._number != number:
                    return
                self.since = None
                if number and self._leader_waits:
                    self._number += 1
                    self._returned.set()
                    return


class _Watch:
    """Looks for calls that take long where they were read.

    Its thread runs while there are such calls, and a little longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: set[Turns] = set()
        self._running = False

    def note(self, turns: Turns) -> bool:
        """Watch TURNS, where a call begins; return False if there is no thread to do it."""
        # With the lock in every case: `_run` may be about to end, as it saw nothing to look at.
        with self._lock:
            if not turns.over:
                self._turns.add(turns)
            if not self._running:
                thread = threading.Thread(target=self._run, name="dualstack-epc watch", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._running = True
        return True

    def forget(self, turns: Turns) -> None:
        """Watch TURNS, which are over, no longer: it would keep the connection's objects."""
        with self._lock:
            self._turns.discard(turns)

    def _run(self) -> None:
        """Look every few milliseconds, until nothing was there for a while."""
        seen = time.monotonic()
        while True:
            time.sleep(SLOW)
            now = time.monotonic()
            for turns in list(self._turns):
                since = turns.since
                if since is not None:
                    seen = now
                    if now - since > SLOW:
                        turns.take_over()
            if now - seen > LINGER:
                with self._lock:
                    if all(turns.since is None for turns in self._turns):
                        self._turns.clear()
                        self._running = False
                        return


_watch = _Watch()
