# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock between processes, which the system lets go when its holder is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INTERVAL = 0.2  # seconds between two tries
BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, 0}  # Wine gives 0


@contextlib.contextmanager
def held(file: Path, wait: Callable[[], object]) -> Iterator[int | None]:
    """Hold the lock FILE meanwhile, and give its descriptor, or None where there are no locks.

    WAIT is called each time another process holds it; what it raises ends the waiting.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while (locked := _try(descriptor)) is False:
            wait()
            time.sleep(INTERVAL)
        yield descriptor if locked else None
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool | None:
    """Return whether DESCRIPTOR's file is locked now; None if its file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415, there is none elsewhere

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415, there is none on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in BUSY else None
    return True
