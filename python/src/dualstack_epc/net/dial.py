# SPDX-License-Identifier: GPL-3.0-or-later
"""Connecting to localhost, whichever of its two addresses the server listens at.

On Windows a refusal takes a second or two, so the second attempt does not wait for the first one to
fail (RFC 8305 section 5).
"""

from __future__ import annotations

import errno
import selectors
import socket
import time

from dualstack_epc.net.listener import IPV4, IPV6, format_address
from dualstack_epc.net.system import strerror

ATTEMPT_DELAY = 0.01  # seconds from the attempt at 127.0.0.1 to that at ::1, if it says nothing
UNDER_WAY = {0, errno.EINPROGRESS, errno.EWOULDBLOCK}


def dial(port: int, timeout: float) -> socket.socket:
    """Return a socket, blocking, that is connected to PORT of 127.0.0.1 or of ::1.

    Raise OSError, which names the address that failed last, or TimeoutError after TIMEOUT seconds.
    """
    deadline = time.monotonic() + timeout
    addresses = [IPV4, IPV6]
    attempts: list[socket.socket] = []
    error = OSError()
    try:
        while addresses or attempts:
            try:
                if addresses:
                    _, family, host = addresses.pop(0)
                    attempts.append(_begin(family, host, port))
                left = deadline - time.monotonic()
                ended = _ended(attempts, min(left, ATTEMPT_DELAY) if addresses else left)
                if ended:
                    attempts.remove(ended[0])
                    return _connected(ended[0], port)
            except OSError as failure:
                error = failure
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"port {port}: no answer within {timeout:g} s")
        raise error
    finally:
        for sock in attempts:
            sock.close()


def _begin(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """Return a socket that is connecting to HOST and PORT; raise OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    code = sock.connect_ex((host, port))
    if code not in UNDER_WAY:
        sock.close()
        raise _error(code, host, port)
    return sock


def _ended(attempts: list[socket.socket], timeout: float) -> list[socket.socket]:
    """Return those of ATTEMPTS that have come to an end, or none after TIMEOUT seconds."""
    with selectors.DefaultSelector() as selector:
        for sock in attempts:
            selector.register(sock, selectors.EVENT_WRITE)
        ready = {key.fd for key, _ in selector.select(max(0.0, timeout))} if attempts else set()
    return [sock for sock in attempts if sock.fileno() in ready]


def _connected(sock: socket.socket, port: int) -> socket.socket:
    """Return SOCK, whose attempt at PORT has ended, if it is connected; else raise OSError."""
    try:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # Where nobody listens, the port that the system draws for our end can be PORT itself.
        if code == 0 and sock.getsockname() == sock.getpeername():
            code = errno.ECONNREFUSED
        if code:
            raise _error(code, IPV4[2] if sock.family == socket.AF_INET else IPV6[2], port)
        sock.setblocking(True)
    except OSError:
        sock.close()
        raise
    return sock


def _error(code: int, host: str, port: int) -> OSError:
    """Return the error CODE, of the class that belongs to it, with the address."""
    return OSError(code, f"{format_address(host, port)}: {strerror(code)}")
