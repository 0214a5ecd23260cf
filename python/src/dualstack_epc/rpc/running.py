# SPDX-License-Identifier: GPL-3.0-or-later
"""The call of the peer that runs: whether it is still wanted, and for whom it makes room."""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar

from dualstack_epc.rpc.errors import CallCancelledError

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from typing import Any

    from dualstack_epc.rpc.dispatch import CallGate


class RunningCall:
    """A call that a method answers at this moment; `current_call` returns it.

    `name` is the method's.  `cancelled` is true once the caller no longer waits.
    """

    __slots__ = (
        "_ended", "_gate", "_on_cancel", "cancelled", "client", "name", "progress", "threaded",
        "uid", "when_away",
    )  # fmt: skip
    # One for all of them: it is held for moments, and only where calls are cancelled.
    _lock = threading.Lock()

    def __init__(
        self, uid: Any, name: str, gate: CallGate, client: object, *, progress: bool = False
    ) -> None:
        """Take the caller's UID, the method's NAME, and the GATE that has let the call through.

        CLIENT is who has called.  PROGRESS is whether it wants to be told of progress.
        """
        self.uid = uid
        self.client = client
        self.name = name
        self.cancelled = False
        self.progress = progress
        self.threaded = False  # whether it occupies a thread, and a place in the gate
        self.when_away: Callable[[], object] | None = None  # what to do before it waits
        self._gate = gate
        self._ended = False
        self._on_cancel: set[Callable[[], object]] | None = None  # what to do then, if anything

    def cancel(self) -> None:
        """Cancel the call, and those that it waits for itself.  Once it has ended, do nothing."""
        with self._lock:
            if self.cancelled or self._ended:
                return
            self.cancelled = True
            actions = list(self._on_cancel or ())
        for action in actions:
            action()

    def check(self) -> None:
        """Raise `CallCancelledError` if the call is cancelled."""
        if self.cancelled:
            raise CallCancelledError("the call was cancelled")

    def when_cancelled(self, action: Callable[[], object]) -> None:
        """Call ACTION when the call is cancelled, at once if it is."""
        with self._lock:
            actions = self._on_cancel  # Its end takes them away at any moment.
            if actions is None:
                actions = self._on_cancel = set()
            actions.add(action)
            cancelled = self.cancelled
        if cancelled:
            action()

    def end(self) -> None:
        """Take note that the method has ended."""
        self._ended = True
        self._on_cancel = None

    def note(self, future: Future[Any]) -> None:
        """Have FUTURE, of a call made here, cancelled with this one."""
        cancel = future.cancel
        self.when_cancelled(cancel)
        future.add_done_callback(lambda _: self._forget(cancel))

    def _forget(self, action: Callable[[], object]) -> None:
        """No longer call ACTION when the call is cancelled."""
        actions = self._on_cancel
        if actions is not None:
            actions.discard(action)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Make room for another call of the same client while the body waits."""
        if not self.threaded:
            yield
            return
        if self.when_away is not None:
            self.when_away()
        self._gate.leave()
        try:
            yield
        finally:
            self._gate.come_back()


current: ContextVar[RunningCall | None] = ContextVar("current", default=None)


def current_call() -> RunningCall:
    """Return the call that the method answers in which this is called.

    Raise LookupError outside of one.
    """
    call = current.get()
    if call is None:
        raise LookupError("no call is answered here")
    return call
