# SPDX-License-Identifier: GPL-3.0-or-later
"""One end of an EPC connection: reads messages, runs calls, matches replies.

Both ends are alike: each may call the other, at any time and from any thread.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import sys
import threading
import time
from functools import partial

from dualstack_epc.net import system
from dualstack_epc.net.listener import format_address
from dualstack_epc.net.log import logger, one_line
from dualstack_epc.rpc.answers import Answers, describe_error, note
from dualstack_epc.rpc.dispatch import CallGate, WorkerPool
from dualstack_epc.rpc.errors import (
    AuthenticationError,
    ConnectionClosedError,
    MethodError,
    RefusedError,
    StrayReplyError,
)
from dualstack_epc.rpc.turns import Turns
from dualstack_epc.wire import messages
from dualstack_epc.wire.describe import describe
from dualstack_epc.wire.frames import LIMIT, FrameDecoder, encode_frame
from dualstack_epc.wire.lisp import OURS, Symbol, Types
from dualstack_epc.wire.messages import (
    JSON_MARGINS,
    MARGIN,
    OWN_MARGIN,
    PROGRESS_MARGIN,
    MalformedError,
    Message,
)

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from dualstack_epc.net.pipe import PipeEnd
    from dualstack_epc.rpc.auth import ServerAuth
    from dualstack_epc.rpc.calls import Calls
    from dualstack_epc.rpc.loop import EventLoop
    from dualstack_epc.rpc.running import RunningCall

CHUNK = 65536
LARGE_CHUNK = 1 << 20
SEND_TIMEOUT = 30.0  # seconds without progress after which a peer that does not read is closed
AUTH_TIMEOUT = 5.0  # seconds in which a client must have proved itself
AUTH_FRAME_LIMIT = 4096  # bytes of a frame before that
# Where a call cannot be told not to wait, as on Windows, small pieces do not wait for long.
DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
SEND_CHUNK = LIMIT if DONT_WAIT else CHUNK
# Emacs on Windows cannot tell that a connect to ::1 is complete but by making a second one.
SILENT_END = "it ended without a word"
LINGER = 2.0  # seconds in which a peer may take leave
BUSY = 2.0  # seconds for which calls beyond the bounds wait although replies may be behind them
CANCEL, PROGRESS = "dualstack-cancel", "dualstack-progress"


class Service:
    """What a `Peer` asks of its owner.  Each method may be called from any thread."""

    types: Types = OURS  # what Lisp's types are read as

    def get_method(self, name: str) -> Callable[..., Any]:
        """Return the method called NAME; raise AttributeError."""
        raise AttributeError(name)

    def describe_methods(self) -> list[Any]:
        """Return a list of lists of name, argument list and documentation."""
        return []

    def on_error(self, error: BaseException) -> None:
        """Take note of ERROR, which a method raised or which a stray reply reported."""

    def reply_error(self, name: str, reason: object) -> Exception:
        """Return the error that the reply NAME, "return-error" or "epc-error", is, for REASON."""
        return MethodError(reason) if name == "return-error" else RefusedError(reason)

    def stray_error(self, name: str, value: object) -> Exception:
        """Return the error that the reply NAME with VALUE answers no call that waits."""
        return StrayReplyError(f"{name} {describe(value)}")

    def on_refusal(self, reason: str) -> None:
        """Take note of REASON, for which the connection ends: the peer's fault."""
        logger().warning("%s", one_line(reason))

    def closed_error(self, reason: str) -> ConnectionClosedError:
        """Return the error that the connection is gone, for REASON."""
        return ConnectionClosedError(reason)

    def event_loop(self) -> EventLoop:
        """Return the loop that ``async def`` methods run on."""
        raise NotImplementedError


class Peer:
    """One end of a connection over a connected socket.

    `run` reads until the connection ends; everything else may be called from any thread.
    """

    def __init__(  # noqa: PLR0913, the options
        self,
        sock: socket.socket | PipeEnd,
        service: Service,
        pool: WorkerPool,
        *,
        auth: ServerAuth | None = None,
        send_timeout: float = SEND_TIMEOUT,
        begins: bool = False,
        limit: int | None = None,
    ) -> None:
        """Use SOCK, which the caller closes, and run calls to SERVICE in POOL.

        With AUTH, nothing but the proof is let through before it is given.  BEGINS means that this
        end is the first to say what it is.  LIMIT bytes may be in a frame until `trust`.
        """
        self.name = _name(sock)
        self._sock = sock
        if not DONT_WAIT and isinstance(sock, socket.socket):
            # The call itself has to end: there is no asking whether it would.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, int(send_timeout * 1000))
        self._service = service
        self._pool = pool
        self._gate = CallGate(pool)
        self._auth = auth
        self._send_timeout = send_timeout
        self._send_lock = threading.Lock()
        self._decoder = FrameDecoder(AUTH_FRAME_LIMIT if auth else limit or LIMIT)
        self._marks = begins  # whether payloads have a margin
        self._known = False  # whether the peer's had one
        self._cancels: list[int] = []  # calls that were cancelled before that is known
        self._json: bool | None = None  # whether the peer reads JSON; None until it has told
        self._calls: Calls | None = None
        self._lock = threading.Lock()
        self._ended: str | None = None  # why the connection is over
        self._heard = False  # whether anything came before the proof
        self._leaving = False
        self._over = threading.Event()
        self._answers = Answers(service, self._gate, self)
        self._turns = Turns(self._read, self._receive, pool.submit)

    # Reading

    def run(self) -> None:
        """Read and serve until the connection ends, which is never an error.

        The calls that wait for a reply then end with a `ConnectionClosedError`.
        """
        reason = None
        try:
            reason = self._admit(self._auth) if self._auth else None
            if reason is None:
                self._turns.lead()
        except OSError as error:
            reason = _lost(error)
        finally:
            self._finish(reason or "the connection was closed")

    def _read(self) -> bytes | None:
        """Return the next payload, or None at the end."""
        decoder = self._decoder
        payload = decoder.next()
        try:
            while payload is None and not decoder.error:
                data = self._sock.recv(min(max(CHUNK, decoder.missing), LARGE_CHUNK))
                if not data:
                    self._finish("the connection was closed")
                    return None
                payload = decoder.next(data)
        except OSError as error:
            self._finish(_lost(error))
            return None
        if payload is None:
            self._service.on_refusal(f"{self.name}: closed, {decoder.error}")
            self._finish(str(decoder.error))
        return payload

    def _finish(self, reason: str) -> None:
        """End everything, for REASON, as there is nothing more to read."""
        self._end(reason)
        self._over.set()
        self._turns.end()

    def _admit(self, auth: ServerAuth) -> str | None:
        """Let nothing through but the proof; return why the connection is to end, or None."""
        deadline = time.monotonic() + AUTH_TIMEOUT
        reason = None
        while reason is None and not auth.done:
            payload = self._decoder.next()
            while payload is None and reason is None:
                reason, payload = self._next_within(deadline)
            if payload is not None:
                reason = self._try_proof(auth, payload)
        if reason and reason != SILENT_END:
            self._service.on_refusal(f"{self.name}: closed, {reason}")
        self._sock.settimeout(None)
        if reason is None:
            self.trust()
            self.meet()
        return reason

    def _next_within(self, deadline: float) -> tuple[str | None, bytes | None]:
        """Return why there will be no payload, and the next payload if there is one."""
        if self._decoder.error:
            return str(self._decoder.error), None
        left = deadline - time.monotonic()
        late = f"no proof within {AUTH_TIMEOUT:.0f} s", None
        if left <= 0:
            return late
        self._sock.settimeout(left)
        try:
            data = self._sock.recv(AUTH_FRAME_LIMIT)
        except TimeoutError:
            return late
        if not data:
            return "it ended before its proof" if self._heard else SILENT_END, None
        self._heard = True
        return None, self._decoder.next(data)

    def _try_proof(self, auth: ServerAuth, payload: bytes) -> str | None:
        """Take PAYLOAD for a step of the proof; return why it is not, or None."""
        uid = None
        try:
            message = messages.parse(payload)
            uid = message.uid
            name, args = _call_arguments(message, OURS)
            reply = messages.encode("return", uid, auth.receive(name, args))
        except (AuthenticationError, MalformedError) as error:
            self.reply(messages.encode_error("epc-error", uid, str(error)))
            return str(error)
        self.reply(reply)
        return None

    # Messages

    def _receive(self, payload: bytes) -> Callable[[], None] | None:
        """Act on the message in PAYLOAD; return what the thread is to do that has read it."""
        if self._leaving:
            return None
        try:
            message = messages.parse(payload, self._service.types)
        except MalformedError as error:
            self._receive_malformed(error)
            return None
        self._note_margin(message, payload)
        if message.name == "call":
            return self._receive_call(message, payload)
        if message.name == "methods":
            self._receive_methods(message)
        else:
            self._receive_reply(message)
        return None

    def _receive_malformed(self, error: MalformedError) -> None:
        """Answer a request that cannot be read; end the call that such a reply was for."""
        if error.name in messages.REPLIES:
            refused = self._service.reply_error("epc-error", str(error))
            if not self._settle(error.uid, error=refused):
                note(self._service, error)
            return
        kind = "return-error" if error.name == "call" and error.uid is not None else "epc-error"
        self.reply(messages.encode_error(kind, error.uid, str(error)))
        note(self._service, error)

    def _receive_call(self, message: Message, payload: bytes) -> Callable[[], None] | None:
        """Run the call in MESSAGE, which has come as PAYLOAD, as soon as there is room.

        If it was quick the last time, return a function that runs it.
        """
        try:
            name, args = _call_arguments(message, self._service.types)
        except MalformedError as error:
            self._refuse(error)
            return None
        uid = message.uid
        if name == CANCEL:
            self._answers.cancel(args[0] if args else None)
            self.reply(messages.encode("return", uid, True))
            return None
        call = self._answers.begin(uid, name, progress=payload.endswith(PROGRESS_MARGIN))
        if name in self._answers.quick and self._gate.enter():
            call.when_away = self._turns.take_over
            return partial(self._answer_here, call, args)
        try:
            self._offer(uid, lambda: self._answers.answer(call, args), len(payload))
        except RuntimeError as error:
            self.reply(messages.encode_error("return-error", uid, str(error)))
        return None

    def _answer_here(self, call: RunningCall, args: list[Any]) -> None:
        """Answer CALL, which has a place in the gate, with ARGS."""
        self._answers.answer(call, args)
        self._gate.leave()

    def _offer(self, uid: Any, job: Callable[[], None], size: int) -> None:
        """Run JOB, the call UID of SIZE bytes, once there is room; reading waits for that.

        Where methods wait for replies that are behind this call, it does not wait for ever.
        """
        waited = False
        while not self._gate.offer(job, size):
            if self._ended or (waited and self.pending):
                reason = f"busy: {self.pending} calls wait for the other end's replies"
                self.reply(messages.encode_error("return-error", uid, reason))
                return
            self._gate.wait_for_room(
                size, lambda: bool(self._ended), BUSY if self.pending else BUSY / 20
            )
            waited = bool(self.pending)

    def _note_margin(self, message: Message, payload: bytes) -> None:
        """Take note of what the peer is, which the margin of PAYLOAD, MESSAGE, tells."""
        if self._json is None and payload.endswith(MARGIN):
            self._json = payload.endswith(JSON_MARGINS)
        if self._known:
            return
        if payload.endswith(MARGIN):
            if not self._marks:
                self.meet()
                # A reply may take long: say as soon what this end is.
                self.reply(messages.encode("return", 0, True))
            self.meet()
        elif self._marks and message.name in messages.REPLIES:
            self._marks = False

    def trust(self) -> None:
        """Take frames of any size: the peer has proved itself."""
        self._decoder.limit = LIMIT

    def meet(self) -> None:
        """Take note that the peer is one of this package, or of dualstack in Emacs."""
        with self._lock:
            self._known = self._marks = True
            cancels, self._cancels = self._cancels, []
        for uid in cancels:
            self._send_cancel(uid)

    def _refuse(self, error: MalformedError) -> None:
        """Answer the request that ERROR is about."""
        self.reply(messages.encode_error("epc-error", error.uid, str(error)))
        note(self._service, self._service.reply_error("epc-error", str(error)))

    def _receive_methods(self, message: Message) -> None:
        """Answer with the list of methods."""
        if message.rest:
            self._refuse(_malformed(message, "too many arguments"))
            return
        uid = message.uid
        try:
            reply = messages.encode("return", uid, self._service.describe_methods())
        except BaseException as error:  # noqa: BLE001, the caller gets its reply whatever happens
            reply = messages.encode_error("return-error", uid, describe_error(error))
        self.reply(reply)

    def _receive_reply(self, message: Message) -> None:
        """End the call that MESSAGE is the reply to."""
        rest = message.rest
        if message.uid == 0 and self._known:  # It answers what was not asked for an answer.
            return
        if message.name == "return" and len(rest) == 1 and self._settle(message.uid, rest[0]):
            return
        name, reason = message.name, rest[0] if rest else None
        if name == "return" and len(rest) != 1:
            reason = str(_malformed(message, f"{len(rest)} values in the reply, 1 expected"))
            name = "epc-error"
        service = self._service
        error = None if name == "return" else service.reply_error(name, reason)
        if error is None or not self._settle(message.uid, error=error):
            note(service, service.stray_error(name, reason))

    # Calling

    def call(self, name: str, args: list[Any]) -> Future[Any]:
        """Call the peer's method NAME with ARGS; return the future of its value.

        The future's exception is `MethodError` if the method failed, `RefusedError` if there is
        none, or `ConnectionClosedError`.  Raise `SendError` if ARGS cannot cross, or the latter.
        """
        return self._request("call", Symbol(name), list(args))

    def methods(self) -> Future[Any]:
        """Ask for the peer's methods; return the future of their list, as `call` does."""
        return self._request("methods")

    def wait(self, future: Future[Any], timeout: float | None = None) -> Any:
        """Return the value of FUTURE, from `call`; raise its exception.

        Raise `CallTimeoutError` after TIMEOUT seconds; then nothing of the call is left, here or
        at the other end.
        """
        return self._outgoing().wait(future, timeout, self.name)

    @property
    def pending(self) -> int:
        """The number of calls that wait for replies."""
        return len(self._calls) if self._calls is not None else 0

    def _request(self, kind: str, *rest: Any, urgent: bool = False) -> Future[Any]:
        """Send a request of KIND; return the future of its reply."""
        return self._outgoing().start(lambda uid: self.encode(kind, uid, *rest), urgent=urgent)

    def _outgoing(self) -> Calls:
        """Return the calls that this end makes."""
        if self._calls is None:
            # Most sidecars only answer, and start 10 ms sooner without futures.
            from dualstack_epc.rpc.calls import Calls  # noqa: PLC0415

            with self._lock:
                if self._calls is None:
                    calls = Calls(self._send_payload, self._pool.submit, self._cancel_there)
                    if self._ended is not None:
                        calls.close(lambda: self._closed_error(self._ended))
                    self._calls = calls
        return self._calls

    def _cancel_there(self, uid: int) -> None:
        """Have the peer cancel the call UID, which was cancelled here."""
        with self._lock:
            # What does not know yet what the peer is tells it as soon as it does.
            if not self._marks or self._calls is None:
                return
            known = self._known
            if not known:
                self._cancels.append(uid)
        self._calls.expect_dropped(uid)
        if known:
            self._send_cancel(uid)

    def _send_cancel(self, uid: int) -> None:
        """Ask the peer to cancel the call UID."""
        self._pool.submit(lambda: self.reply(messages.encode("call", 0, Symbol(CANCEL), [uid])))

    def _settle(self, uid: Any, value: Any = None, error: Exception | None = None) -> bool:
        """End the call UID with VALUE or ERROR; return whether there is such a call."""
        return self._calls is not None and self._calls.settle(uid, value, error)

    def _closed_error(self, reason: object) -> ConnectionClosedError:
        """Return the error that the connection is gone, for REASON."""
        return self._service.closed_error(f"{self.name}: {reason}")

    # Sending

    def reply(self, payload: bytes) -> None:
        """Send a reply; where the connection is gone, nobody waits for it."""
        try:  # noqa: SIM105, this is on every call's way, and `suppress` takes longer
            self._send_payload(payload)
        except OSError:
            pass

    def _send_payload(self, payload: bytes) -> None:
        """Send PAYLOAD as a frame; raise OSError if the peer is gone or does not read."""
        if self._marks and not payload.endswith(MARGIN) and len(payload) < LIMIT - len(OWN_MARGIN):
            payload = payload[:-1] + OWN_MARGIN
        frame = encode_frame(payload)
        with self._send_lock:
            if self._ended is not None:
                raise OSError(self._ended)
            try:
                self._send_all(frame)
            except OSError as error:
                # Half a frame may be out: nothing can follow it.
                self.close(f"sending failed: {system.reason(error)}")
                raise

    def _send_all(self, frame: bytes) -> None:
        """Send FRAME, waiting while the peer makes progress."""
        rest: bytes | memoryview = frame
        while rest:
            piece = rest if len(rest) <= SEND_CHUNK else memoryview(rest)[:SEND_CHUNK]
            try:
                sent = self._sock.send(piece, DONT_WAIT)
                if sent == len(rest):
                    return
                rest = memoryview(rest)[sent:]
            except BlockingIOError:
                if not _writable(self._sock, self._send_timeout):
                    raise self._late() from None
            except TimeoutError:
                raise self._late() from None

    def _late(self) -> TimeoutError:
        """Return the error that the peer does not read."""
        return TimeoutError(errno.ETIMEDOUT, f"the peer read nothing for {self._send_timeout:g} s")

    def encode(self, name: str, uid: Any, *rest: Any) -> bytes:
        """Return the payload of a message for the peer; raise `SendError`."""
        return messages.encode(name, uid, *rest, ours=self._known, json=bool(self._json))

    def report(self, uid: Any, value: Any) -> Future[Any]:
        """Tell the peer that its call UID has yielded VALUE; return the future of its use."""
        return self._request("call", Symbol(PROGRESS), [uid, value], urgent=True)

    def later(self, job: Callable[[], None]) -> None:
        """Run JOB in a thread."""
        self._pool.submit(job)

    # The end

    def leave(self) -> None:
        """Close the connection once the peer has read what was sent, or after 2 s."""
        self._leaving = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        if not self._over.wait(LINGER):
            self.close()

    def close(self, reason: str = "the connection was closed here") -> None:
        """Close the connection; every call that waits for a reply ends at once."""
        self._end(reason)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if sys.platform == "win32":
            # That does not wake a thread which receives, or sends; this does.
            self._sock.close()

    def _end(self, reason: str) -> None:
        """End every call in either direction, for REASON."""
        with self._lock:
            if self._ended is None:
                self._ended = reason
            calls = self._calls
        self._gate.close()
        if calls is not None:
            calls.close(lambda: self._closed_error(self._ended))
        self._answers.close()


def _writable(sock: socket.socket | PipeEnd, timeout: float) -> bool:
    """Return whether SOCK takes data within TIMEOUT seconds."""
    if hasattr(select, "poll"):  # `select` itself knows descriptors below 1,024 only.
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))
    return bool(select.select([], [sock], [], timeout)[1])


def _lost(error: OSError) -> str:
    """Return that the connection is lost, by ERROR."""
    return f"the connection was lost: {system.reason(error)}"


def _call_arguments(message: Message, types: Types) -> tuple[str, list[Any]]:
    """Return the method's name and the arguments of the call MESSAGE; raise `MalformedError`.

    TYPES are those that it was read with.
    """
    if message.name != "call" or len(message.rest) > 2:  # noqa: PLR2004
        raise _malformed(message, "too many arguments")
    if len(message.rest) < 2:  # noqa: PLR2004
        raise _malformed(message, "a method and its arguments are needed")
    name, args = message.rest
    if not isinstance(name, types.symbol):
        raise MalformedError(f"{describe(name)} is no method's name", "call", message.uid)
    if not isinstance(args, list):
        raise MalformedError(f"{describe(args)} is no list of arguments", "call", message.uid)
    return str(name), args


def _malformed(message: Message, reason: str) -> MalformedError:
    """Return the error that MESSAGE is malformed, for REASON."""
    text = f"({message.name} {describe(message.uid)} ...): {reason}"
    return MalformedError(text, message.name, message.uid)


def _name(sock: socket.socket | PipeEnd) -> str:
    """Return what to call SOCK's peer in logs."""
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError, AttributeError):
        return "peer"
    return format_address(host, port)
