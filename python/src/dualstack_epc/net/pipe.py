# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of streams, such as standard input and output, that is used as a connected socket is."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

# Where a write cannot be told not to wait, a stream that takes anything takes as much at once.
PIECE = getattr(select, "PIPE_BUF", 512)
BLOCKING_PIECE = 65536
WIDTH = 1 << 20  # bytes that a pipe takes before its writer waits; 64 KB is usual


class PipeEnd:
    """What is read from one descriptor and written to another.

    The methods are those of a socket that a `Peer` uses.
    """

    def __init__(self, reading: int, writing: int) -> None:
        """Use the descriptors READING and WRITING, and close the latter in the end."""
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

    def recv(self, size: int) -> bytes:
        """Return up to SIZE bytes, or none at the end."""
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
        if how != socket.SHUT_WR and self._wake:
            os.write(self._wake[1], b"x")

    def getpeername(self) -> NoReturn:
        """Raise OSError: the other end has no name."""
        raise OSError(errno.EBADF, "a pipe's other end has no name")

    def close(self) -> None:
        """Close what this has opened, once nothing is read or sent any more."""
        self.shutdown(socket.SHUT_WR)
        wake, self._wake = self._wake, None
        for each in wake or ():
            os.close(each)


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
