# SPDX-License-Identifier: GPL-3.0-or-later
"""``dualstack-epc serve --stdio``: one client, at standard input and output.

There is no port and no token: whoever has started this process holds the other ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from typing import TYPE_CHECKING

from dualstack_epc.net.pipe import PipeEnd, wait_for_hangup
from dualstack_epc.net.system import on_signal, stop_waking, wake_by_signals
from dualstack_epc.rpc.handler import ClientHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from dualstack_epc.rpc.core import Server

FAREWELL = 0.5  # seconds in which what was logged last is passed on


def serve(
    server: Server, stdin: int, output: int, *, hung_up: Callable[[], object], pass_log: bool
) -> None:
    """Serve the client at the descriptors STDIN and OUTPUT until it is gone, or a signal comes.

    HUNG_UP is called when it is, even while nothing is read.  With PASS_LOG, what is written to
    standard error is sent to the client, as calls of its method ``dualstack-log``.
    """
    if hasattr(select, "poll"):
        threading.Thread(
            target=_watch, args=(stdin, hung_up), daemon=True, name="dualstack-epc hangup"
        ).start()
    pipe = PipeEnd(stdin, output, ended=hung_up)
    _Handler.log = _Log() if pass_log else None

    def handle() -> None:
        _Handler(pipe, ("standard input", 0), server)  # type: ignore[arg-type]

    on_signal(lambda: pipe.shutdown(socket.SHUT_RD))
    try:
        _run_aside(handle)
    finally:
        pipe.close()


def _run_aside(function: Callable[[], object]) -> None:
    """Call FUNCTION in another thread; handlers of signals run in this one meanwhile."""
    wake, waker = os.pipe()  # A socket may not be had.

    def run() -> None:
        try:
            function()
        finally:
            os.write(waker, b"e")

    if sys.platform != "win32":  # There a pipe cannot, and need not, be told so.
        os.set_blocking(waker, False)
    woken = wake_by_signals(waker)
    thread = threading.Thread(target=run, daemon=True, name="dualstack-epc connection")
    thread.start()
    while b"e" not in os.read(wake, 64):
        pass  # A signal's handler has run.
    if woken:
        stop_waking()
    thread.join()
    for each in (wake, waker):
        os.close(each)


def _watch(stdin: int, hung_up: Callable[[], object]) -> None:
    """Call HUNG_UP when nobody holds the other end of STDIN any more."""
    wait_for_hangup(stdin)
    hung_up()


class _Handler(ClientHandler):
    """The handler of the one client."""

    log: _Log | None = None

    def handle(self) -> None:
        """Serve the client until it is gone."""
        if self.log:
            self.log.start(self)
        super().handle()

    def finish(self) -> None:
        """Let go of the client."""
        if self.log:
            self.log.stop()
        super().finish()


class _Log:
    """What is written to standard error, and where it is sent instead."""

    def __init__(self) -> None:
        """Take standard error, and what has become of standard output."""
        self._reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.dup2(writing, 1)
        os.close(writing)

    def start(self, handler: ClientHandler) -> None:
        """Send what comes to the client of HANDLER."""
        self._thread = threading.Thread(
            target=self._pass, args=(handler,), daemon=True, name="dualstack-epc log"
        )
        self._thread.start()

    def _pass(self, handler: ClientHandler) -> None:
        """Send what comes, until there is no more."""
        while data := os.read(self._reading, 4096):
            with contextlib.suppress(Exception):  # Then the client is gone, and nobody reads.
                handler.call_future("dualstack-log", [data.decode("utf-8", "replace")])

    def stop(self) -> None:
        """Send what was written last."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.dup2(null, 1)
        os.close(null)
        self._thread.join(FAREWELL)
