# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Wine is not Windows."""

from __future__ import annotations

import ctypes
import socket
import sys


def on_wine() -> bool:
    """Return whether this is Windows' Python, but not Windows."""
    return sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def connected(host: str, port: int) -> socket.socket:
    """Return a socket, with a timeout, that is connected to PORT of the loopback address HOST.

    Wine's server (8.0) never tells of one connect in some thousands; another one is made then.
    """
    try:
        sock = socket.create_connection((host, port), timeout=5 if on_wine() else 30)
    except TimeoutError:
        if not on_wine():
            raise
        sock = socket.create_connection((host, port), timeout=30)
    sock.settimeout(30)
    return sock
