# SPDX-License-Identifier: GPL-3.0-or-later
"""The package's log.  `logging`, which takes 3 ms, is loaded for the first line, not earlier."""

from __future__ import annotations

import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger


def one_line(text: str) -> str:
    """Return TEXT as it can be logged: what could end the line, or control a terminal, escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


class Tally:
    """Log lines that strangers cause: at most one a second, which counts the others.

    `flush` logs what has been counted since the last line.
    """

    def __init__(self, interval: float = 1.0) -> None:
        """Log a line each INTERVAL seconds."""
        self._interval = interval
        self._lock = threading.Lock()
        self._count = 0
        self._last = ""
        self._next = 0.0

    def add(self, text: str) -> None:
        """Log TEXT, or count it."""
        with self._lock:
            self._count += 1
            self._last = one_line(text)
            if time.monotonic() < self._next:
                return
            line = self._line()
        logger().warning("%s", line)

    def flush(self) -> None:
        """Log what was counted since the last line."""
        with self._lock:
            if not self._count:
                return
            line = self._line()
        logger().warning("%s", line)

    def _line(self) -> str:
        """Return the line that is due."""
        others, self._count = self._count - 1, 0
        self._next = time.monotonic() + self._interval
        return f"{self._last} (and {others} others)" if others else self._last


class _Choice:
    """The level that `send_to_stderr` was given, until the first line is logged."""

    level: str | None = None


def logger() -> Logger:
    """Return the logger ``dualstack_epc``."""
    import logging  # noqa: PLC0415, see above

    level, _Choice.level = _Choice.level, None
    if level:
        _configure(level)
    return logging.getLogger("dualstack_epc")


def send_to_stderr(level: str) -> None:
    """Send the logs to standard error, from LEVEL on, once the first line is logged."""
    _Choice.level = level


def _configure(level: str) -> None:
    """Send the logs, python-epc's too, to standard error, from LEVEL on, once each."""
    import logging  # noqa: PLC0415, see above

    epc_logger = logging.getLogger("epc")
    for handler in list(epc_logger.handlers):
        epc_logger.removeHandler(handler)
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if epc_logger.getEffectiveLevel() < logging.INFO:
        epc_logger.setLevel(logging.INFO)  # Its debugging output holds every payload.
