# SPDX-License-Identifier: GPL-3.0-or-later
"""One end of an EPC connection: reads messages, runs calls, matches replies.

Both ends are alike: each may call the other, at any time and from any thread.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import select
import socket
import threading
import time
from contextvars import ContextVar

from dualstack_epc.net.listener import format_address
from dualstack_epc.net.log import logger
from dualstack_epc.rpc.dispatch import CallGate, WorkerPool
from dualstack_epc.rpc.errors import (
    AuthenticationError,
    CallTimeoutError,
    ConnectionClosedError,
    MethodError,
    RefusedError,
    StrayReplyError,
)
from dualstack_epc.wire import messages
from dualstack_epc.wire.errors import SendError
from dualstack_epc.wire.frames import LIMIT, FrameDecoder, encode_frame
from dualstack_epc.wire.lisp import OURS, Symbol, Types
from dualstack_epc.wire.messages import MalformedError, Message
from dualstack_epc.wire.printer import describe

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from dualstack_epc.rpc.auth import ServerAuth

CHUNK = 65536
SEND_TIMEOUT = 30.0  # seconds without progress after which a peer that does not read is closed
AUTH_TIMEOUT = 5.0  # seconds in which a client must have proved itself
AUTH_FRAME_LIMIT = 4096  # bytes of a frame before that
# Where a call cannot be told not to wait, as on Windows, small pieces do not wait for long.
DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
SEND_CHUNK = LIMIT if DONT_WAIT else CHUNK
LINGER = 2.0  # seconds in which a peer may take leave


# Who has called the method that runs in this thread.
caller: ContextVar[Service] = ContextVar("caller")


class CloseAfter:
    """What a method returns to have the connection closed after its reply, VALUE."""

    def __init__(self, value: Any) -> None:
        """Take the VALUE to reply."""
        self.value = value


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

    def closed_error(self, reason: str) -> ConnectionClosedError:
        """Return the error that the connection is gone, for REASON."""
        return ConnectionClosedError(reason)


class Peer:
    """One end of a connection over a connected socket.

    `run` reads until the connection ends; everything else may be called from any thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        service: Service,
        pool: WorkerPool,
        *,
        auth: ServerAuth | None = None,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """Use SOCK, which the caller closes, and run calls to SERVICE in POOL.

        With AUTH, nothing but the proof is let through before it is given.
        """
        self.name = _name(sock)
        self._sock = sock
        self._service = service
        self._pool = pool
        self._gate = CallGate(pool)
        self._auth = auth
        self._send_timeout = send_timeout
        self._send_lock = threading.Lock()
        self._decoder = FrameDecoder(AUTH_FRAME_LIMIT if auth else LIMIT)
        self._uids = itertools.count(1)
        self._pending: dict[int, Future[Any]] = {}
        self._pending_lock = threading.Lock()
        self._ended: str | None = None  # why the connection is over
        self._leaving = False
        self._over = threading.Event()

    # Reading

    def run(self) -> None:
        """Read and serve until the connection ends, which is never an error.

        The calls that wait for a reply then end with a `ConnectionClosedError`.
        """
        reason = "the connection was closed"
        try:
            if self._auth:
                reason = self._admit(self._auth) or reason
            if not self._auth or self._auth.done:
                reason = self._read() or reason
        except OSError as error:
            reason = f"the connection was lost: {error.strerror or error}"
        finally:
            self._end(reason)
            self._over.set()

    def _read(self) -> str | None:
        """Read until the end; return why it came, if the peer did something wrong."""
        decoder = self._decoder
        payload = decoder.next()
        while True:
            while payload is not None:
                if not self._leaving:
                    self._receive(payload)
                payload = decoder.next()
            if decoder.error:
                logger().warning("%s: closed, %s", self.name, decoder.error)
                return str(decoder.error)
            data = self._sock.recv(CHUNK)
            if not data:
                return None
            payload = decoder.next(data)

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
        if reason:
            logger().warning("%s: closed, %s", self.name, reason)
        self._sock.settimeout(None)
        self._decoder.limit = LIMIT
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
            return "it ended before its proof", None
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
            self._send_reply(messages.encode_error("epc-error", uid, str(error)))
            return str(error)
        self._send_reply(reply)
        return None

    # Messages

    def _receive(self, payload: bytes) -> None:
        """Act on the message in PAYLOAD."""
        try:
            message = messages.parse(payload, self._service.types)
        except MalformedError as error:
            self._receive_malformed(error)
            return
        if message.name == "call":
            self._receive_call(message, len(payload))
        elif message.name == "methods":
            self._receive_methods(message)
        else:
            self._receive_reply(message)

    def _receive_malformed(self, error: MalformedError) -> None:
        """Answer a request that cannot be read; end the call that such a reply was for."""
        if error.name in messages.REPLIES:
            refused = self._service.reply_error("epc-error", str(error))
            if not self._settle(error.uid, error=refused):
                self._service.on_error(error)
            return
        kind = "return-error" if error.name == "call" and error.uid is not None else "epc-error"
        self._send_reply(messages.encode_error(kind, error.uid, str(error)))
        self._service.on_error(error)

    def _receive_call(self, message: Message, size: int) -> None:
        """Run the call in MESSAGE, which has SIZE bytes, as soon as there is room."""
        try:
            name, args = _call_arguments(message, self._service.types)
        except MalformedError as error:
            self._refuse(error)
            return

        def job() -> None:
            self._answer(message.uid, name, args)

        try:
            while not self._gate.offer(job, size):
                if self._pending or self._ended:
                    # Not reading on would keep back the very reply that lets a call end.
                    reason = f"busy: {len(self._pending)} calls wait for the other end's replies"
                    self._send_reply(messages.encode_error("return-error", message.uid, reason))
                    return
                self._gate.wait_for_room(size, lambda: bool(self._pending or self._ended))
        except RuntimeError as error:
            self._send_reply(messages.encode_error("return-error", message.uid, str(error)))

    def _refuse(self, error: MalformedError) -> None:
        """Answer the request that ERROR is about."""
        self._send_reply(messages.encode_error("epc-error", error.uid, str(error)))
        self._service.on_error(self._service.reply_error("epc-error", str(error)))

    def _receive_methods(self, message: Message) -> None:
        """Answer with the list of methods."""
        if message.rest:
            self._refuse(_malformed(message, "too many arguments"))
            return
        uid = message.uid
        try:
            reply = messages.encode("return", uid, self._service.describe_methods())
        except Exception as error:  # noqa: BLE001, the caller gets its reply whatever happens
            reply = messages.encode_error("return-error", uid, describe_error(error))
        self._send_reply(reply)

    def _answer(self, uid: Any, name: str, args: list[Any]) -> None:
        """Call the method NAME with ARGS and send its reply, whatever the method does."""
        close = False
        try:
            method = self._service.get_method(name)
        except AttributeError:
            reason = f"EPC-ERROR: No such method : {name}"
            reply = messages.encode_error("epc-error", uid, reason)
        else:
            mark = caller.set(self._service)
            try:
                value = method(*args)
                if isinstance(value, CloseAfter):
                    value, close = value.value, True
                reply = messages.encode("return", uid, value)
            except BaseException as error:  # noqa: BLE001, SystemExit too would cost a reply
                self._service.on_error(error)
                reply = messages.encode_error("return-error", uid, describe_error(error))
            finally:
                caller.reset(mark)
        self._send_reply(reply)
        if close:
            self.leave()

    def _receive_reply(self, message: Message) -> None:
        """End the call that MESSAGE is the reply to."""
        rest = message.rest
        if message.name == "return" and len(rest) == 1 and self._settle(message.uid, rest[0]):
            return
        name, reason = message.name, rest[0] if rest else None
        if name == "return" and len(rest) != 1:
            reason = str(_malformed(message, f"{len(rest)} values in the reply, 1 expected"))
            name = "epc-error"
        service = self._service
        error = None if name == "return" else service.reply_error(name, reason)
        if error is None or not self._settle(message.uid, error=error):
            service.on_error(service.stray_error(name, reason))

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

        Raise `CallTimeoutError` after TIMEOUT seconds; then nothing of the call is left.
        """
        from concurrent.futures import TimeoutError as FutureTimeoutError  # noqa: PLC0415

        try:
            return future.result(timeout)
        except FutureTimeoutError:
            future.cancel()
            raise CallTimeoutError(f"{self.name}: no reply within {timeout} s") from None

    def _request(self, kind: str, *rest: Any) -> Future[Any]:
        """Send a request of KIND; return the future of its reply."""
        # Most sidecars only answer, and start the sooner.
        from concurrent.futures import Future  # noqa: PLC0415

        uid = next(self._uids)
        frame = encode_frame(messages.encode(kind, uid, *rest))
        future: Future[Any] = Future()
        with self._pending_lock:
            if self._ended is not None:
                raise self._closed_error(self._ended)
            self._pending[uid] = future
        # A future that its owner gives up leaves nothing behind.
        future.add_done_callback(lambda _: self._pending.pop(uid, None))
        self._gate.wake()
        try:
            self._send(frame)
        except OSError as error:
            self._pending.pop(uid, None)
            raise self._closed_error(error) from error
        return future

    def _settle(self, uid: Any, value: Any = None, error: Exception | None = None) -> bool:
        """End the call UID with VALUE or ERROR; return whether there is such a call."""
        future = self._pending.pop(uid, None) if type(uid) is int else None
        if future is None:
            return False
        _finish(future, value, error)
        return True

    def _closed_error(self, reason: object) -> ConnectionClosedError:
        """Return the error that the connection is gone, for REASON."""
        return self._service.closed_error(f"{self.name}: {reason}")

    # Sending

    def _send_reply(self, payload: bytes) -> None:
        """Send a reply; where the connection is gone, nobody waits for it."""
        with contextlib.suppress(OSError):
            self._send(encode_frame(payload))

    def _send(self, frame: bytes) -> None:
        """Send FRAME whole; raise OSError if the peer is gone or does not read."""
        with self._send_lock:
            if self._ended is not None:
                raise OSError(self._ended)
            try:
                self._send_all(frame)
            except OSError as error:
                # Half a frame may be out: nothing can follow it.
                self.close(f"sending failed: {error.strerror or error}")
                raise

    def _send_all(self, frame: bytes) -> None:
        """Send FRAME, waiting while the peer makes progress."""
        view = memoryview(frame)
        while view:
            try:
                view = view[self._sock.send(view[:SEND_CHUNK], DONT_WAIT) :]
            except BlockingIOError:
                if not _writable(self._sock, self._send_timeout):
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"the peer read nothing for {self._send_timeout:g} s"
                    ) from None

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

    def _end(self, reason: str) -> None:
        """End every call that waits for a reply, for REASON."""
        with self._pending_lock:
            if self._ended is None:
                self._ended = reason
            pending = list(self._pending.values())
        self._gate.close()
        for future in pending:
            _finish(future, error=self._closed_error(self._ended))


def _writable(sock: socket.socket, timeout: float) -> bool:
    """Return whether SOCK takes data within TIMEOUT seconds."""
    if hasattr(select, "poll"):  # `select` itself knows descriptors below 1,024 only.
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))
    return bool(select.select([], [sock], [], timeout)[1])


def describe_error(error: BaseException) -> str:
    """Return ERROR as the message of an error reply, whatever its repr does."""
    if isinstance(error, SendError):
        return str(error)
    try:
        return repr(error)
    except BaseException:  # noqa: BLE001, a hostile repr must not cost the caller its reply
        return f"{type(error).__name__} (its repr fails)"


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


def _finish(future: Future[Any], value: Any = None, error: Exception | None = None) -> None:
    """End FUTURE with VALUE or ERROR, if it was not cancelled in this moment."""
    from concurrent.futures import InvalidStateError  # noqa: PLC0415, loaded with the future

    with contextlib.suppress(InvalidStateError):
        if error:
            future.set_exception(error)
        else:
            future.set_result(value)


def _name(sock: socket.socket) -> str:
    """Return what to call SOCK's peer in logs."""
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError, AttributeError):
        return "peer"
    return format_address(host, port)
