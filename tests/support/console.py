# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command until it is ready, and end it as the keyboard does.

    python console.py EVENT COMMAND...

starts COMMAND, waits for its first line, sends EVENT (SIGINT, SIGTERM or, on Windows, SIGBREAK),
and prints its status, the seconds that it took to end, and what it wrote on standard error.

On Windows Ctrl-C and Ctrl-Break go to every process of a console: run this in one of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

KEEP: list[object] = []  # What Windows calls must not be collected.


def send(child: subprocess.Popen[str], event: str) -> None:
    """Send EVENT to CHILD."""
    if sys.platform != "win32":
        child.send_signal(signal.Signals[event])
        return
    KEEP.append(ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(lambda _event: 1))
    ctypes.WinDLL("kernel32").SetConsoleCtrlHandler(KEEP[0], 1)
    code = {"SIGINT": signal.CTRL_C_EVENT, "SIGBREAK": signal.CTRL_BREAK_EVENT}[event]
    os.kill(0, code)


def main() -> None:
    """Run as the module's docstring says."""
    event, *command = sys.argv[1:]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        start = time.monotonic()
        send(child, event)
        try:
            _, errors = child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            _, errors = child.communicate()
        print(child.returncode, time.monotonic() - start)
        print(errors, end="")


if __name__ == "__main__":
    main()
