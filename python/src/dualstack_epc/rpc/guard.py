# SPDX-License-Identifier: GPL-3.0-or-later
"""A small process that makes sure that a sidecar ends, whatever runs in it.

A thread cannot do that: it does not run while a method holds the interpreter's lock, such as in a
regular expression that takes for ever, and it may not even start.  The kernel's own signal for it
(``PR_SET_PDEATHSIG``) comes when the *thread* of Emacs that made the process ends, and leaves no
time to clean up.  So the sidecar forks before it does anything, and the guard

1. kills the sidecar some time after its standard input has ended, which is when Emacs is gone, or
   after it was told to end by a signal;
2. copies what the sidecar, and the programs that it has started, write to standard error, as long
   as the sidecar lives: so none of these keeps Emacs's pipes open.

It ends with the sidecar.  On Windows, where there is no ``fork``, `guard_windows` does the first.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from dualstack_epc.net.light import signal

GRACE = 1.5  # seconds in which the sidecar may end by itself
LOOK = 5.0  # seconds after which the guard looks whether the sidecar is there, at the latest
SHORT_LOOK = 0.02  # the same where a method has closed all files, with the pipe that would tell
DRAIN = 0.3  # seconds in which what the sidecar has written last is copied
PIECE = 4096  # bytes that a pipe takes without waiting once it is writable
ENDING = frozenset({int(signal.SIGTERM), int(signal.SIGINT)})


class _Kept:
    """The end of a pipe that tells the guard whether this process lives."""

    descriptor: int | None = None


def start() -> bool:
    """Start the guard of this process, which must have one thread; return whether it runs.

    From now on standard error is a pipe to it, but on Windows.
    """
    if not hasattr(os, "fork"):
        from dualstack_epc.rpc import guard_windows  # noqa: PLC0415, others do without

        return guard_windows.start()
    life, alive = os.pipe()
    errors, writing = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # There are too many processes: we go on without.
        for descriptor in (life, alive, errors, writing):
            os.close(descriptor)
        return False
    if pid == 0:
        try:
            os.close(alive)
            os.close(writing)
            _Guard(parent, life, errors).run()
        finally:
            os._exit(0)
    os.close(life)
    os.close(errors)
    os.dup2(writing, 2)
    os.close(writing)
    os.set_blocking(alive, False)
    # The number of each signal is written there at once, also while nothing in Python runs.
    signal.set_wakeup_fd(alive, warn_on_full_buffer=False)
    _Kept.descriptor = alive
    # A fork that a method has made would keep the pipe open.
    os.register_at_fork(after_in_child=_let_go)
    return True


def _let_go() -> None:
    """Close the pipe that tells the guard whether this process lives: it is another one."""
    if _Kept.descriptor is not None:
        with contextlib.suppress(OSError):
            os.close(_Kept.descriptor)
        _Kept.descriptor = None


class _Guard:
    """The guard itself, in the process that was forked."""

    def __init__(self, parent: int, life: int, errors: int) -> None:
        """Watch over PARENT by the pipe LIFE, and copy the pipe ERRORS to standard error."""
        self._parent = parent
        self._life = life
        self._errors = errors
        self._deadline: float | None = None
        self._output = b""  # what is to be written next
        self._poll = select.poll()

    def run(self) -> None:
        """Watch until the parent has ended, and copy what is left."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        self._poll.register(0, 0)  # Its end is reported in any case.
        self._poll.register(self._life, select.POLLIN)
        self._poll.register(self._errors, select.POLLIN)
        while self._alive():
            left = LOOK if self._life >= 0 else SHORT_LOOK
            if self._deadline is not None:
                left = min(left, self._deadline - time.monotonic())
            if left <= 0:
                self._kill()
            else:
                self._wait(left)
        end = time.monotonic() + DRAIN
        while self._errors >= 0 and (left := end - time.monotonic()) > 0:
            self._wait(left)

    def _alive(self) -> bool:
        """Return whether the parent lives."""
        return os.getppid() == self._parent

    def _kill(self) -> None:
        """Kill the parent, whose time is over."""
        self._deadline = None
        if self._alive():
            os.kill(self._parent, signal.SIGKILL)

    def _wait(self, seconds: float) -> None:
        """Do what there is to do within SECONDS."""
        for descriptor, _event in self._poll.poll(seconds * 1000):
            if descriptor == 0:
                self._poll.unregister(0)
                self._end_soon()
            elif descriptor == self._life:
                self._take_signals(os.read(self._life, PIECE))
            elif descriptor == self._errors:
                self._take_output(os.read(self._errors, PIECE))
            elif descriptor == 2:  # noqa: PLR2004, standard error takes more
                self._write()

    def _end_soon(self) -> None:
        """Give the parent a grace period in which to end."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE

    def _take_signals(self, data: bytes) -> None:
        """Take DATA, the numbers of signals that the parent has got, or nothing at its end."""
        if not data:
            self._poll.unregister(self._life)
            self._life = -1
        elif ENDING & set(data):
            self._end_soon()

    def _take_output(self, data: bytes) -> None:
        """Have DATA written, and take no more until then; nothing is the end."""
        self._poll.unregister(self._errors)
        if not data:
            self._errors = -1
            return
        self._output = data
        try:
            self._poll.register(2, select.POLLOUT)
        except OSError:
            self._written()

    def _write(self) -> None:
        """Write what was read; where nobody reads it any more, it is lost."""
        try:
            self._output = self._output[os.write(2, self._output) :]
        except BlockingIOError:
            return
        except OSError:
            self._output = b""
        if not self._output:
            self._poll.unregister(2)
            self._written()

    def _written(self) -> None:
        """Read on: what was read has been written."""
        self._output = b""
        self._poll.register(self._errors, select.POLLIN)
