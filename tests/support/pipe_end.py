# SPDX-License-Identifier: GPL-3.0-or-later
"""One of two ends that are joined: what it reads the other prints, and both end together.

``python pipe_end.py first|second FIFO FIFO`` is an end; both have the same FIFOs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading


def copy(source: int, target: int) -> None:
    """Copy what comes from SOURCE to TARGET, and end the process when there is no more."""
    with contextlib.suppress(OSError):
        while data := os.read(source, 65536):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    os._exit(0)


def main(which: str, one: str, two: str) -> None:
    """Be the end WHICH of the two at the FIFOs ONE and TWO."""
    if which == "first":
        writing, reading = os.open(one, os.O_WRONLY), os.open(two, os.O_RDONLY)
    else:
        reading, writing = os.open(one, os.O_RDONLY), os.open(two, os.O_WRONLY)
    threading.Thread(target=copy, args=(reading, 1), daemon=True).start()
    copy(0, writing)


if __name__ == "__main__":
    main(*sys.argv[1:])
