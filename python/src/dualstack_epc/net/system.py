# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between systems: signals that end a command, what wakes it, names of errors."""

from __future__ import annotations

import os
import socket
import sys

from dualstack_epc.net.light import signal

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from collections.abc import Callable

# What ends a command.  Ctrl-Break is SIGBREAK, which only Windows has.
ENDING = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    ENDING.append(signal.SIGBREAK)


def open_streams() -> None:
    """Have standard input, output and error open: empty, or lost, where this was started without.

    Else the next files and sockets that are opened would be taken for them.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(number)  # On Windows the number is never free, but may be of no file.
        except OSError:
            os.dup2(nothing, number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if nothing > 2:  # noqa: PLR2004
        os.close(nothing)


class _End:
    """What the next signal that ends the command calls."""

    function: Callable[[], object] | None = None


def end_by_signals() -> None:
    """Have signals end this process: at once, with status 0, or as `on_signal` says.

    A handler must not raise SystemExit: where a destructor or the collector of garbage runs, or a
    module catches everything, it would be lost, and the signal with it.
    """
    for number in ENDING:
        signal.signal(number, _end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """Have signals do what they do to any program: this is a fork that a method has made.

    Such as a process of `multiprocessing`, which is ended by SIGTERM.  It must not end the server,
    with which it has the sockets in common.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore_signals() -> None:
    """Have signals no longer end this process, which is about to end."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def on_signal(function: Callable[[], object]) -> None:
    """Have the next signal call FUNCTION in the main thread; one after it ends the process at once.

    FUNCTION must neither wait nor take a lock that the main thread may hold.
    """
    _End.function = function


def _end(_number: int, _frame: object) -> None:
    """End the command, in order if it has said how."""
    function, _End.function = _End.function, None
    if function is None:
        os._exit(0)
    function()


def strerror(code: int) -> str:
    """Return what the error CODE means; `os.strerror` does not know those of Windows' sockets."""
    names: dict[int, str] = getattr(socket, "errorTab", {})
    return names[code].rstrip(".") if code in names else os.strerror(code)


def reason(error: OSError) -> str:
    """Return why ERROR was raised, and about which file, as one line."""
    # What Windows says of a socket is long and in the user's language; ours stays as it is.
    names: dict[int, str] = getattr(socket, "errorTab", {})
    code = getattr(error, "winerror", None)
    text = strerror(code) if code in names else error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def wake_by_signals(waker: socket.socket | int) -> bool:
    """Have each signal write to WAKER, a socket or descriptor; return whether it will.

    Writing to it must not wait.  Nothing else ends a wait, in which no handler runs, for a signal
    on Windows, or for one that came just before the wait or in another thread.  If this process's
    guard is told of signals, it is left to that.  Only the main thread may call this.
    """
    descriptor = waker if isinstance(waker, int) else waker.fileno()
    other = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    if other == -1:
        return True
    signal.set_wakeup_fd(other, warn_on_full_buffer=False)
    return False


def stop_waking() -> None:
    """Take back what `wake_by_signals` has done."""
    signal.set_wakeup_fd(-1)
