# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering the peer's calls: in a thread or on the event loop, with progress and cancellation.

A plain function or generator runs in a thread of the pool, an ``async def`` on the event loop.
Each call gets exactly one reply, whatever the method does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from dualstack_epc.net.log import logger
from dualstack_epc.rpc.errors import CallCancelledError
from dualstack_epc.rpc.running import RunningCall, current
from dualstack_epc.rpc.turns import QUICK
from dualstack_epc.wire import messages
from dualstack_epc.wire.describe import class_name
from dualstack_epc.wire.errors import SendError

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from concurrent.futures import Future
    from typing import Any, Protocol

    from dualstack_epc.rpc.dispatch import CallGate
    from dualstack_epc.rpc.loop import EventLoop

    class Caller(Protocol):
        """Whose methods answer."""

        def get_method(self, name: str) -> Callable[..., Any]:
            """Return the method called NAME; raise AttributeError."""

        def on_error(self, error: BaseException) -> None:
            """Take note of ERROR, which a method raised."""

        def event_loop(self) -> EventLoop:
            """Return the loop that ``async def`` methods run on."""

    class Link(Protocol):
        """What answering asks of the connection."""

        def encode(self, name: str, uid: Any, *rest: Any) -> bytes:
            """Return the payload of a message; raise `SendError`."""

        def reply(self, payload: bytes) -> None:
            """Send PAYLOAD, if the connection is open."""

        def leave(self) -> None:
            """Close the connection once the peer has read everything."""

        def report(self, uid: Any, value: Any) -> Future[Any]:
            """Tell the peer that its call UID has yielded VALUE; return the future of its use."""

        def later(self, job: Callable[[], None]) -> None:
            """Run JOB in a thread."""


UIDS = (int, str)  # what a call can be cancelled by
# What most methods return, and needs no look at what it may be besides.
ATOMS: frozenset[type] = frozenset({int, str, bool, type(None), float, list, tuple, dict, bytes})
AHEAD = 16  # values of a generator that the peer has not used yet
GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200  # flags of code objects, as in `inspect`


class CloseAfter:
    """What a method returns to have the connection closed after its reply, VALUE."""

    def __init__(self, value: Any) -> None:
        """Take the VALUE to reply."""
        self.value = value


class Answers:
    """The peer's calls that have no reply yet."""

    def __init__(self, service: Caller, gate: CallGate, link: Link) -> None:
        """Answer calls over LINK with the methods of SERVICE, in GATE or on the event loop."""
        self._service = service
        self._gate = gate
        self._link = link
        self.quick: set[str] = set()  # the methods that took no time when they were called last
        self._calls: dict[Any, RunningCall] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def begin(self, uid: Any, name: str, *, progress: bool) -> RunningCall:
        """Take note of the call UID of the method NAME; with PROGRESS its caller wants values."""
        call = RunningCall(uid, name, self._gate, self._service, progress=progress)
        if isinstance(uid, UIDS):
            with self._lock:
                self._calls[uid] = call
        return call

    def cancel(self, uid: Any) -> None:
        """Cancel the call UID, if it has no reply yet."""
        call = self._calls.get(uid) if isinstance(uid, UIDS) else None
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Cancel every call: nobody waits for its reply."""
        for call in list(self._calls.values()):
            call.cancel()

    def answer(self, call: RunningCall, args: list[Any]) -> None:
        """Run the method of CALL with ARGS in this thread, or start it on the event loop."""
        method = self._find(call)
        if method is None:
            return
        begun = time.monotonic()
        before = current.set(call)
        call.threaded = True
        try:
            call.check()
            flags = _flags(method)
            if flags & COROUTINE:
                self._start(call, lambda: method(*args))
                return
            if flags & ASYNC_GENERATOR:
                self._start(call, lambda: self._iterate_async(call, method(*args)))
                return
            value = method(*args)
            if flags & GENERATOR:
                value = self._iterate(call, value)
            elif type(value) not in ATOMS and _is_coroutine(value):
                self._start(call, lambda: value)
                return
        except BaseException as error:  # noqa: BLE001, SystemExit too would cost a reply
            self._fail(call, error)
        else:
            self._succeed(call, value)
        finally:
            call.threaded = False
            current.reset(before)
            if time.monotonic() - begun < QUICK:
                self.quick.add(call.name)
            else:
                self.quick.discard(call.name)

    def _find(self, call: RunningCall) -> Callable[..., Any] | None:
        """Return the method of CALL; if there is none, reply that and return None."""
        try:
            return self._service.get_method(call.name)
        except AttributeError:
            reason = f"EPC-ERROR: No such method : {call.name}"
            self._end(call, messages.encode_error("epc-error", call.uid, reason))
        except BaseException as error:  # noqa: BLE001, it may be the user's own
            self._fail(call, error)
        return None

    # The end of a call

    def _succeed(self, call: RunningCall, value: Any) -> None:
        """Reply VALUE to CALL."""
        # `isinstance` would ask the value for its class, which may raise anything.
        close = issubclass(type(value), CloseAfter)
        if close:
            value = value.value
        try:
            payload = self._link.encode("return", call.uid, value)
        except BaseException as error:  # noqa: BLE001, a value's own methods may raise anything
            self._fail(call, error)
            return
        self._end(call, payload)
        if close:
            self._link.leave()

    def _fail(self, call: RunningCall, error: BaseException) -> None:
        """Reply to CALL that its method has raised ERROR."""
        if not call.cancelled:
            note(self._service, error)
        self._end(call, messages.encode_error("return-error", call.uid, describe_error(error)))

    def _end(self, call: RunningCall, payload: bytes) -> None:
        """Send PAYLOAD, the reply to CALL."""
        if os.getpid() != self._process:
            os._exit(0)  # The method has forked: the reply, and the connection, are its parent's.
        call.end()
        with self._lock:
            if isinstance(call.uid, UIDS) and self._calls.get(call.uid) is call:
                del self._calls[call.uid]
        self._link.reply(payload)

    # Generators

    def _iterate(self, call: RunningCall, generator: Generator[Any, Any, Any]) -> Any:
        """Report what GENERATOR yields for CALL; return what it returns."""
        ahead: list[Future[Any]] = []
        try:
            while True:
                try:
                    value = next(generator)
                except StopIteration as end:
                    return end.value
                call.check()
                if call.progress:
                    ahead.append(self._link.report(call.uid, value))
                    if len(ahead) > AHEAD:
                        ahead.pop(0).exception()
        finally:
            generator.close()

    async def _iterate_async(self, call: RunningCall, generator: AsyncGenerator[Any, Any]) -> None:
        """Report what GENERATOR yields for CALL."""
        import asyncio  # noqa: PLC0415, loaded already by the loop

        ahead: list[Future[Any]] = []
        try:
            async for value in generator:
                if call.progress:
                    ahead.append(self._link.report(call.uid, value))
                    if len(ahead) > AHEAD:
                        await asyncio.wait([asyncio.wrap_future(ahead.pop(0))])
        finally:
            await generator.aclose()

    # Coroutines

    def _start(self, call: RunningCall, make: Callable[[], Any]) -> None:
        """Run the coroutine that MAKE returns for CALL on the event loop."""
        service = self._service

        async def run() -> Any:
            current.set(call)
            return await make()

        def done(value: Any, error: BaseException | None) -> None:
            # Printing a large value, or a peer that reads slowly, must not hold up the loop.
            self._link.later(
                lambda: self._succeed(call, value) if error is None else self._fail(call, error)
            )

        call.threaded = False
        cancel = service.event_loop().submit(run, call.name, done)
        call.when_cancelled(cancel)


def note(service: Caller, error: BaseException) -> None:
    """Have SERVICE take note of ERROR, whatever that does: the connection goes on."""
    try:
        service.on_error(error)
    except BaseException as problem:  # noqa: BLE001, it may be the user's own
        with contextlib.suppress(BaseException):
            logger().error("taking note of an error failed: %s", type(problem).__name__)


def _flags(method: Any) -> int:
    """Return the flags of METHOD's code, which tell generators and coroutines from functions."""
    for _ in range(10):  # partial objects and bound methods may be wrapped in each other
        if (code := getattr(method, "__code__", None)) is not None:
            flags = code.co_flags
            return flags if isinstance(flags, int) else 0
        inner = getattr(method, "func", None) or getattr(method, "__func__", None)
        if inner is None:
            inner = getattr(type(method), "__call__", None)  # noqa: B004, its flags are wanted
        if inner is method or inner is None:
            break
        method = inner
    return 0


def _is_coroutine(value: Any) -> bool:
    """Return whether VALUE is what an ``async def`` returns when it is called."""
    return hasattr(value, "cr_code") and hasattr(value, "cr_await")


def describe_error(error: BaseException) -> str:
    """Return ERROR as the message of an error reply, whatever its repr does."""
    try:
        if isinstance(error, (SendError, CallCancelledError)):
            return str(error)
        # It may be of a subclass, with methods of its own.
        return str.__str__(repr(error))
    except BaseException:  # noqa: BLE001, a hostile repr must not cost the caller its reply
        return f"{class_name(error)} (its repr fails)"
