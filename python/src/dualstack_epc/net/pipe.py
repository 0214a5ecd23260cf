# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of streams, such as standard input and output, that is used as a connected socket is."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# Where a write cannot be told not to wait, a stream that takes anything takes as much at once.
PIECE = getattr(select, "PIPE_BUF", 512)
BLOCKING_PIECE = 65536
WIDTH = 1 << 20  # bytes that a pipe takes before its writer waits; 64 KB is usual


class PipeEnd:
    """What is read from one descriptor and written to another.

    The methods are those of a socket that a `Peer` uses.
    """

    def __init__(
        self, reading: int, writing: int, *, ended: Callable[[], object] | None = None
    ) -> None:
        """Use the descriptors READING and WRITING, and close the latter in the end.

        Where what is read cannot be watched beside reading, on Windows, ENDED is called at its end.
        """
        self._reading = reading
        self._writing = writing
        self._open = True
        self._polls = hasattr(select, "poll")
        self._waits = not (self._polls and _can_be_unblocked(writing))
        if not self._waits:
            os.set_blocking(writing, False)
        for each in (reading, writing):
            _widen(each)
        # What `recv` waits for, too: a byte there ends it.
        self._wake = os.pipe() if self._polls else None
        self._pump = None if self._polls else _Pump(reading, ended)

    def recv(self, size: int) -> bytes:
        """Return up to SIZE bytes, or none at the end."""
        if self._pump:
            return self._pump.recv(size)
        if self._wake:
            poll = select.poll()
            poll.register(self._reading, select.POLLIN)
            poll.register(self._wake[0], select.POLLIN)
            if any(descriptor == self._wake[0] for descriptor, _ in poll.poll()):
                return b""
        return os.read(self._reading, size)

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        """Send the beginning of DATA; return its length.  Raise BlockingIOError if it must wait."""
        if not self._open:
            raise BrokenPipeError(errno.EBADF, "closed here")
        if not self._waits:
            return os.write(self._writing, data)
        if self._polls:
            poll = select.poll()
            poll.register(self._writing, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError
        return os.write(self._writing, data[: PIECE if self._polls else BLOCKING_PIECE])

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self._writing

    def settimeout(self, timeout: float | None) -> None:
        """Do nothing: only a proof has a time, and there is none here."""

    def shutdown(self, how: int) -> None:
        """End what HOW says: with SHUT_RD what `recv` waits for, with SHUT_WR sending, or both."""
        if self._open and how != socket.SHUT_RD:
            self._open = False
            with contextlib.suppress(OSError):
                os.close(self._writing)
        if how != socket.SHUT_WR:
            if self._wake:
                os.write(self._wake[1], b"x")
            if self._pump:
                self._pump.stop()

    def getpeername(self) -> NoReturn:
        """Raise OSError: the other end has no name."""
        raise OSError(errno.EBADF, "a pipe's other end has no name")

    def close(self) -> None:
        """Close what this has opened, once nothing is read or sent any more."""
        self.shutdown(socket.SHUT_WR)
        wake, self._wake = self._wake, None
        for each in wake or ():
            os.close(each)


class _Pump:
    """Reads a descriptor in a thread of its own: on Windows nothing ends a read but its data.

    What was read and not taken is bounded, and so is what the other end can send.
    """

    def __init__(self, descriptor: int, ended: Callable[[], object] | None) -> None:
        """Read DESCRIPTOR, and call ENDED, unless that is None, at its end."""
        self._descriptor = descriptor
        self._ended = ended
        self._condition = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._over = False
        threading.Thread(target=self._run, daemon=True, name="dualstack-epc reader").start()

    def _run(self) -> None:
        """Read until the end, or until nobody wants more."""
        with contextlib.suppress(OSError):
            while data := os.read(self._descriptor, BLOCKING_PIECE):
                with self._condition:
                    self._pieces.append(data)
                    self._size += len(data)
                    self._condition.notify_all()
                    self._condition.wait_for(lambda: self._size < WIDTH or self._over)
                    if self._over:
                        return
        with self._condition:
            self._over = True
            self._condition.notify_all()
        if self._ended:
            self._ended()

    def recv(self, size: int) -> bytes:
        """Return up to SIZE bytes, or none at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._pieces or self._over)
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
                piece = piece[:size]
            self._size -= len(piece)
            self._condition.notify_all()
            return piece

    def stop(self) -> None:
        """Have `recv` return nothing from now on."""
        with self._condition:
            self._over = True
            self._pieces.clear()
            self._condition.notify_all()


def wait_for_hangup(descriptor: int) -> None:
    """Return when nobody can write to DESCRIPTOR's other end any more, whatever is unread.

    Where that cannot be known, never return.
    """
    poll = select.poll()
    poll.register(descriptor, 0)
    ends = select.POLLHUP | select.POLLERR | select.POLLNVAL
    while not any(event & ends for _, event in poll.poll()):
        pass


def _can_be_unblocked(descriptor: int) -> bool:
    """Return whether DESCRIPTOR can be told not to wait, and no one else is told with it.

    A terminal is one file, which is read as well.
    """
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _widen(descriptor: int) -> None:
    """Have DESCRIPTOR's pipe take more at once where that can be said: large messages wait less."""
    try:
        import fcntl  # noqa: PLC0415, there is none on Windows

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, WIDTH)
    except (ImportError, AttributeError, OSError):
        pass  # It is no pipe, or not on Linux, or the user has too many wide ones.
