# SPDX-License-Identifier: GPL-3.0-or-later
"""The event loop that a server's ``async def`` methods run on, in a thread of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dualstack_epc.net.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

START = 5.0  # seconds in which a loop must begin to run
BLOCKED = 1.0  # seconds after which a loop that does not turn is named in the log


class LoopError(Exception):
    """The event loop does not run."""


class EventLoop:
    """One event loop, started for the first coroutine, and again if a method has ended it."""

    def __init__(self) -> None:
        """Make the loop; nothing runs yet."""
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._closed = False

    def submit(
        self,
        make: Callable[[], Coroutine[Any, Any, Any]],
        name: str,
        done: Callable[[Any, BaseException | None], None],
    ) -> Callable[[], None]:
        """Run the coroutine that MAKE returns, in a task called NAME; return what cancels it.

        DONE is called once in the loop's thread, with the value or the exception.  Raise
        `LoopError` if there is no loop to run it.
        """
        with self._lock:
            if self._closed:
                raise LoopError("the server is closed")
            if self._run is None or self._run.over:
                self._run = _Run()
            run = self._run
        return run.submit(make, name, done)

    def close(self) -> None:
        """Cancel what runs, and end the loop."""
        with self._lock:
            self._closed = True
            run = self._run
        if run is not None:
            run.stop()


class _Run:
    """A loop and its thread, from the start to the end."""

    def __init__(self) -> None:
        self.over = False
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._jobs: dict[int, Callable[[Any, BaseException | None], None]] = {}
        self._jobs_lock = threading.Lock()
        self._number = 0
        self._busy = threading.Event()
        self._thread = threading.Thread(target=self._main, name="dualstack-epc loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.over = True
            raise LoopError(f"the event loop does not start: {error}") from error
        if not self._started.wait(START) or self._error is not None:
            self.over = True
            reason = self._error or f"nothing within {START:g} s"
            raise LoopError(f"the event loop does not start: {reason!r}")
        threading.Thread(target=self._watch, name="dualstack-epc loop watch", daemon=True).start()

    def submit(
        self,
        make: Callable[[], Coroutine[Any, Any, Any]],
        name: str,
        done: Callable[[Any, BaseException | None], None],
    ) -> Callable[[], None]:
        """Do what `EventLoop.submit` says."""
        with self._jobs_lock:
            if self.over:
                raise LoopError("the event loop has ended")
            self._number += 1
            number = self._number
            self._jobs[number] = done
        task: asyncio.Task[Any] | None = None
        cancelled = False

        def begin() -> None:
            nonlocal task
            if cancelled:
                self._finish(number, None, asyncio.CancelledError())
                return
            task = self._loop.create_task(make(), name=name)
            task.add_done_callback(lambda each: self._finish(number, *_outcome(each)))

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True
            if task is not None:
                task.cancel()

        self._post(begin)
        self._busy.set()
        return lambda: self._post(cancel)

    def stop(self) -> None:
        """End the loop."""
        self._post(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(1)

    def _post(self, action: Callable[[], object]) -> None:
        """Have the loop run ACTION, if it still runs; what waits for it ends when it ends."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(action)

    def _main(self) -> None:
        """Run the loop until something ends it, and then end what waits for it."""
        try:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
            self._loop.call_soon(self._started.set)
            self._loop.run_forever()
        except BaseException as error:  # noqa: BLE001, whatever it is must reach the callers
            self._error = error
        finally:
            with self._jobs_lock:
                self.over = True
            self._started.set()
            self._busy.set()
            self._end()

    def _end(self) -> None:
        """Cancel the tasks that are left, end their calls, and close the loop."""
        loop = getattr(self, "_loop", None)
        reason = f": {self._error!r}" if self._error else ""
        for number in list(self._jobs):
            self._finish(number, None, LoopError(f"the event loop has ended{reason}"))
        if loop is None:
            return
        with suppress(Exception):
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=0.5))
            loop.run_until_complete(loop.shutdown_asyncgens())
        with suppress(Exception):
            loop.close()

    def _finish(self, number: int, value: Any, error: BaseException | None) -> None:
        """Tell the owner of job NUMBER what came of it, once."""
        with self._jobs_lock:
            done = self._jobs.pop(number, None)
            if not self._jobs:
                self._busy.clear()
        if done is not None:
            done(value, error)

    def _watch(self) -> None:
        """Log a line when a method keeps the loop from turning."""
        while not self.over:
            self._busy.wait()
            turned = threading.Event()
            self._post(turned.set)
            if not turned.wait(BLOCKED) and not self.over:
                logger().warning(
                    "the event loop is blocked for over %g s by %s", BLOCKED, self._culprit()
                )
                while not turned.wait(BLOCKED) and not self.over:
                    pass
            # Not more than a few looks a second.
            threading.Event().wait(BLOCKED / 4)

    def _culprit(self) -> str:
        """Return what runs in the loop's thread: the method, and where it is."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001, there is no other way
        where = ""
        if frame is not None:
            last = traceback.extract_stack(frame)[-1]
            where = f" ({last.filename}:{last.lineno})"
        return f"{task.get_name() if task else 'a callback'}{where}"


def _outcome(task: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
    """Return the value and the exception that TASK has ended with."""
    if task.cancelled():
        return None, asyncio.CancelledError()
    error = task.exception()
    return (None, error) if error is not None else (task.result(), None)
