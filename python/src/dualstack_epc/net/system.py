# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between systems: the signals that end a command, and the names of errors."""

from __future__ import annotations

import os
import signal
import socket
import sys

# What ends a command.  Ctrl-Break is SIGBREAK, which only Windows has.
ENDING = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    ENDING.append(signal.SIGBREAK)


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


def wake_by_signals(sock: socket.socket | None) -> None:
    """Have each signal write to SOCK, a socket that does not block, or with None no longer.

    On Windows nothing else ends a wait for sockets, in which no handler of a signal runs.  Only the
    main thread may call this.
    """
    signal.set_wakeup_fd(sock.fileno() if sock else -1, warn_on_full_buffer=False)
