# SPDX-License-Identifier: GPL-3.0-or-later
"""One port on both loopback addresses.

``localhost`` is two addresses, and a client may dial either.  A `Listener` holds a listening socket
for 127.0.0.1 and one for ::1 (RFC 6761 section 6.3) at the same port; nothing else of the machine
can be reached through it, as it never binds a wildcard address.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import sys
import time

from dualstack_epc.net.system import reason, stop_waking, wake_by_signals

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from types import TracebackType

IPV4 = ("ipv4", socket.AF_INET, "127.0.0.1")
IPV6 = ("ipv6", socket.AF_INET6, "::1")
FAMILIES = {"dual": (IPV4, IPV6), "ipv4": (IPV4,), "ipv6": (IPV6,)}

BACKLOG = 1024
TRIES = 50  # ports drawn before a common free one is given up
BACK_OFF = 0.1  # seconds without accepting while the process is out of descriptors

# What a host without the address family answers to socket() or bind().
MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class PortInUseError(OSError):
    """The port is taken; the message names the address."""


class FamilyMissingError(OSError):
    """The machine has none of the address families asked for."""


class Listener:
    """Listening sockets at one port, made by `open_listener`.

    `port` is the port, `addresses` are pairs of host and port, IPv4 first, and `missing` are the
    names of families that were asked for and that this machine lacks.  A context manager: leaving
    it closes the sockets.
    """

    def __init__(self, sockets: list[socket.socket], missing: tuple[str, ...] = ()) -> None:
        """Take SOCKETS, which listen at one port."""
        self.sockets = sorted(sockets, key=lambda sock: sock.family != socket.AF_INET)
        self.addresses: list[tuple[str, int]] = [s.getsockname()[:2] for s in self.sockets]
        self.port = self.addresses[0][1]
        self.missing = missing
        self._turns = list(self.sockets)  # the one that was accepted from last is last
        self._paused_until: float | None = None
        self._waker, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._waker.setblocking(False)
        for sock in (*self.sockets, self._wake):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._woken_by_signals = False

    def accept(self, timeout: float | None = None) -> tuple[socket.socket, tuple[str, int]] | None:
        """Return the next client's socket, blocking, and its address.

        Return None after TIMEOUT seconds or when `wake` was called.  While the process is out of
        file descriptors no client is accepted for 0.1 s at a time; they wait in the backlog.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            events = self._selector.select(self._next_look(deadline))
            ready = {key.fileobj for key, _ in events}
            if self._wake in ready:
                self._wake.recv(1024)
                return None
            for sock in list(self._turns):
                client = self._accept(sock) if sock in ready else None
                if client:
                    # Many clients at one address must not keep those at the other waiting.
                    self._turns.remove(sock)
                    self._turns.append(sock)
                    return client
            if not ready and deadline is not None and time.monotonic() >= deadline:
                return None

    def _next_look(self, deadline: float | None) -> float | None:
        """Return for how many seconds to wait for clients, and end a pause that is over."""
        now = time.monotonic()
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
            for sock in self.sockets:
                self._selector.register(sock, selectors.EVENT_READ)
        ends = [end for end in (deadline, self._paused_until) if end is not None]
        return max(0.0, min(ends) - now) if ends else None

    def _accept(self, sock: socket.socket) -> tuple[socket.socket, tuple[str, int]] | None:
        """Accept from SOCK, or return None if its client has gone or there is no descriptor."""
        try:
            client, address = sock.accept()
        except OSError as error:
            if error.errno in EXHAUSTED and self._paused_until is None:
                self._paused_until = time.monotonic() + BACK_OFF
                for each in self.sockets:
                    self._selector.unregister(each)
            return None
        client.setblocking(True)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, address[:2]

    def wake(self) -> None:
        """Make `accept`, now or at its next call, return None; callable from any thread."""
        with contextlib.suppress(OSError):  # It is full, or closed: `accept` returns anyway.
            self._waker.send(b"w")

    def wake_by_signals(self) -> None:
        """Make `accept` return for each signal until `close`; for the main thread alone."""
        self._woken_by_signals = wake_by_signals(self._waker)

    def close(self) -> None:
        """Stop listening.  Clients that were accepted are not affected."""
        if self._woken_by_signals:
            stop_waking()
            self._woken_by_signals = False
        self._selector.close()
        for sock in (*self.sockets, self._waker, self._wake):
            sock.close()

    def __enter__(self) -> Listener:
        """Return the listener."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the listener."""
        self.close()

    def describe(self) -> str:
        """Return the addresses as a phrase, such as ``127.0.0.1:80 and [::1]:80``."""
        return " and ".join(format_address(host, port) for host, port in self.addresses)

    def announce(self, doing: str) -> str:
        """Return a line that says where the command is DOING what, and what the machine lacks."""
        lacking = (f"; this machine has no {name} loopback" for name in self.missing)
        return f"dualstack-epc: {doing} at {self.describe()}{''.join(lacking)}"


def format_address(host: str, port: int) -> str:
    """Return HOST and PORT as one writes them in a URL (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_listener(family: str = "dual", port: int = 0) -> Listener:
    """Return a `Listener` at PORT, or for 0 at a port that is free at each address.

    FAMILY is "dual", "ipv4" or "ipv6".  With "dual", a family that the machine lacks is left out
    and named in the listener's `missing`.  Raise `PortInUseError` if PORT is taken at one of the
    addresses, `FamilyMissingError` if no address is left, or `ValueError`.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}: use dual, ipv4 or ipv6")
    if not 0 <= port <= 65535:  # noqa: PLR2004
        raise ValueError(f"port {port} is out of range: use 0 to 65535")
    parked: list[socket.socket] = []
    try:
        order = list(FAMILIES[family])
        for _ in range(TRIES):
            sockets, missing, taken = _listen_all(order, port)
            if not sockets:
                raise FamilyMissingError(
                    errno.EADDRNOTAVAIL, f"this machine has no {' and no '.join(missing)} loopback"
                )
            if not taken:
                return Listener(sockets, missing)
            # Holding on to the port that is free at one address only keeps the kernel from offering
            # it again, and the other family leads: leading with the same one repeats the collision.
            parked += sockets
            order.reverse()
        raise PortInUseError(errno.EADDRINUSE, "no port is free at both 127.0.0.1 and ::1")
    finally:
        for sock in parked:
            sock.close()


def open_at(
    host: str, port: int = 0, family: str = "dual", *, allow_remote: bool = False
) -> Listener:
    """Return a `Listener` at PORT of HOST: localhost, by FAMILY, or one literal address.

    A wildcard address is refused, and one that the network can reach needs ALLOW_REMOTE.  Raise
    ValueError if HOST is not allowed, or as `open_listener` does.
    """
    if host.rstrip(".").lower() == "localhost":
        return open_listener(family, port)
    for name, _, loopback in (IPV4, IPV6):
        if host == loopback:
            return open_listener(name, port)
    import ipaddress  # noqa: PLC0415, 1 ms, which local servers save

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"{host!r} is no address: use localhost, 127.0.0.1, ::1 or another literal"
        ) from None
    if address.is_unspecified:
        raise ValueError(f"{host} is every network's address: name one, or use localhost")
    if not address.is_loopback and not allow_remote:
        raise ValueError(
            f"{host} is reachable from the network: that needs leave (allow_remote,"
            " --allow-remote) and authentication"
        )
    kind = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004
    try:
        return Listener([_listen(kind, host, port)])
    except OSError as error:
        raise _explain(error, host, port) from error


def _listen_all(
    order: list[tuple[str, socket.AddressFamily, str]], port: int
) -> tuple[list[socket.socket], tuple[str, ...], bool]:
    """Listen at PORT of each family in ORDER; for 0, at the port that the first one draws.

    Return the sockets, the families that are missing, and whether a drawn port was taken at the
    second address.  On an error no socket stays open.
    """
    sockets: list[socket.socket] = []
    missing = []
    try:
        for name, family, host in order:
            try:
                sockets.append(
                    _listen(family, host, sockets[0].getsockname()[1] if sockets else port)
                )
            except OSError as error:
                if error.errno in MISSING:
                    missing.append(name)
                elif port == 0 and sockets and error.errno in {errno.EADDRINUSE, errno.EACCES}:
                    return sockets, (), True
                else:
                    raise _explain(error, host, port) from error
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets, tuple(missing), False


def _listen(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """Return a socket that listens at HOST and PORT; an error leaves none open."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let a second server take the address over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # Two sockets can be bound to one address where neither listens: only listening claims it.
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int) -> OSError:
    """Return ERROR with the address that it is about."""
    where = format_address(host, port)
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(error.errno, f"port {port} is in use at {where}")
    if sys.platform == "win32" and error.errno == errno.EACCES:
        return PortInUseError(
            error.errno,
            f"port {port} is in use at {where}, or Windows keeps it back:"
            " netsh interface ipv4 show excludedportrange tcp",
        )
    return OSError(error.errno, f"cannot listen at {where}: {reason(error)}")
