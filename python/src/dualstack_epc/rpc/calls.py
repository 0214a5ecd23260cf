# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls that one end of a connection makes: their futures, their order, their cancellation.

At most `WINDOW` calls wait for replies at once, others are held back until then.  A call made
inside a method is not: the peer may wait for that method, and would wait for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from dualstack_epc.rpc.errors import CallCancelledError, CallTimeoutError
from dualstack_epc.rpc.running import current

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 64  # calls that wait for replies at once
REMEMBERED = 1000  # cancelled calls whose replies are still to be dropped


class CallFuture(Future[Any]):
    """What will come of a call.  A method that waits for it makes room for others."""

    def result(self, timeout: float | None = None) -> Any:
        """Return the value; raise the call's exception, or `TimeoutError` after TIMEOUT seconds."""
        with self._away():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the call's exception or None; raise `TimeoutError` after TIMEOUT seconds."""
        with self._away():
            return super().exception(timeout)

    def _away(self) -> contextlib.AbstractContextManager[None]:
        call = current.get(None)
        return contextlib.nullcontext() if call is None or self.done() else call.away()


class Calls:
    """The calls of one connection that have no reply yet."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        later: Callable[[Callable[[], None]], None],
        on_cancel: Callable[[int], None],
    ) -> None:
        """Send payloads by SEND, which raises OSError where the connection is gone.

        LATER runs a function in another thread; ON_CANCEL is told the UID of each call that was
        sent and then cancelled here.
        """
        self._send = send
        self._later = later
        self._on_cancel = on_cancel
        self._uids = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, CallFuture] = {}
        self._held: deque[tuple[int, CallFuture, bytes]] = deque()
        self._counted: set[int] = set()  # those that count against the window
        self._dropped: dict[int, None] = {}  # cancelled ones whose reply may come
        self._closed: Callable[[], Exception] | None = None
        self._pumping = False

    def __len__(self) -> int:
        """Return how many calls wait for replies, or to be sent."""
        return len(self._pending)

    def start(self, encode: Callable[[int], bytes], *, urgent: bool = False) -> CallFuture:
        """Send the request that ENCODE returns for a UID; return the future of its reply.

        URGENT means that it is not held back.  Raise what ENCODE raises, the error of a connection
        that is closed, or `CallCancelledError` inside a method that is cancelled.
        """
        call = current.get(None)
        if call is not None:
            call.check()
        uid = next(self._uids)
        payload = encode(uid)
        future = CallFuture()
        with self._lock:
            if self._closed:
                raise self._closed()
            hold = not (urgent or call) and (len(self._counted) >= WINDOW or bool(self._held))
            self._pending[uid] = future
            if hold:
                self._held.append((uid, future, payload))
            elif not (urgent or call):
                self._counted.add(uid)
        # A future that its owner gives up leaves nothing behind.
        future.add_done_callback(lambda _: self._done(uid, future))
        if call is not None:
            call.note(future)
        if not hold:
            self._send_now(uid, future, payload)
        return future

    def wait(self, future: Future[Any], timeout: float | None, name: str) -> Any:
        """Return the value of FUTURE, of a call to NAME; raise its exception.

        Raise `CallTimeoutError` after TIMEOUT seconds, and `CallCancelledError` when the method
        that waits is cancelled; the call has ended then at the other end too.
        """
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            if future.done():  # It is what the method has raised.
                raise
            future.cancel()
            raise CallTimeoutError(f"{name}: no reply within {timeout} s") from None
        except CancelledError:
            raise CallCancelledError("the call was cancelled") from None

    def settle(self, uid: Any, value: Any = None, error: Exception | None = None) -> bool:
        """End the call UID with VALUE or ERROR; return whether there is such a call.

        The reply to a call that was cancelled here is dropped, once.
        """
        if type(uid) is not int:
            return False
        with self._lock:
            future = self._pending.pop(uid, None)
            known = future is not None or self._dropped.pop(uid, self) is not self
        if future is not None:
            _finish(future, value, error)
        return known

    def expect_dropped(self, uid: int) -> None:
        """Let the reply to the call UID, which was cancelled, be dropped without a word."""
        with self._lock:
            self._dropped[uid] = None
            if len(self._dropped) > REMEMBERED:
                del self._dropped[next(iter(self._dropped))]

    def close(self, error: Callable[[], Exception]) -> None:
        """End every call with the exception that ERROR makes, and refuse others with it."""
        with self._lock:
            self._closed = error
            futures = list(self._pending.values())
            self._held.clear()
        for future in futures:
            _finish(future, error=error())

    def _send_now(self, uid: int, future: CallFuture, payload: bytes) -> None:
        """Send PAYLOAD, the request UID; raise where the connection is gone."""
        try:
            self._send(payload)
        except OSError:
            with self._lock:
                self._pending.pop(uid, None)
                closed = self._closed
            future.cancel()
            if closed:
                raise closed() from None
            raise

    def _done(self, uid: int, future: CallFuture) -> None:
        """Take note that the call UID has ended, and send one that was held back."""
        with self._lock:
            self._pending.pop(uid, None)
            self._counted.discard(uid)
            held = any(each[0] == uid for each in self._held) if future.cancelled() else False
            if held:
                self._held = deque(each for each in self._held if each[0] != uid)
            pump = bool(self._held) and not self._pumping and not self._closed
            self._pumping = self._pumping or pump
            closed = self._closed
        if future.cancelled() and not held and not closed:
            self._on_cancel(uid)
        if pump:
            self._later(self._pump)

    def _pump(self) -> None:
        """Send calls that were held back, as far as there is room."""
        while True:
            with self._lock:
                if not self._held or len(self._counted) >= WINDOW or self._closed:
                    self._pumping = False
                    return
                uid, future, payload = self._held.popleft()
                self._counted.add(uid)
            # The connection is gone: its end ends the call.
            with contextlib.suppress(OSError):
                self._send(payload)
            if future.done():
                self._counted.discard(uid)


def _finish(future: Future[Any], value: Any = None, error: Exception | None = None) -> None:
    """End FUTURE with VALUE or ERROR, if it was not cancelled in this moment."""
    with contextlib.suppress(InvalidStateError):
        if error:
            future.set_exception(error)
        else:
            future.set_result(value)
