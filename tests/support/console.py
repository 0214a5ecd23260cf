# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command until it is ready, and end it as the keyboard does.

    python console.py [--after SECONDS] [--once FILE] [--patience SECONDS] EVENT COMMAND...

starts COMMAND, waits for its first line, or until FILE is there, and sends EVENT (SIGINT, SIGTERM
or, on Windows, SIGBREAK), SECONDS after that.  It prints the command's status, the seconds that it
took to end, and what it wrote on standard error.  EVENT may be several, "SIGINT,SIGTERM".

On Windows Ctrl-C and Ctrl-Break go to every process of a console: run this in one of its own.

A command that has not ended after --patience SECONDS, by default 40, is killed: the status of this
is 1 then, and it says what it waited for.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def send(child: subprocess.Popen[str], event: str) -> None:
    """Send EVENT to CHILD."""
    if sys.platform != "win32":
        child.send_signal(signal.Signals[event])
        return
    # It goes to this process, too, in a thread that may run while Python ends: no handler of ours.
    signal.signal(signal.Signals[event], signal.SIG_IGN)
    code = {"SIGINT": signal.CTRL_C_EVENT, "SIGBREAK": signal.CTRL_BREAK_EVENT}[event]
    os.kill(0, code)


def wait_until_ready(child: subprocess.Popen[str], file: Path | None) -> None:
    """Return once CHILD has written its first line or, if it is given, made FILE."""
    if file is None:
        assert child.stdout is not None
        child.stdout.readline()
        return
    while not file.exists() and child.poll() is None:
        time.sleep(0.002)


def give_up(child: subprocess.Popen[str]) -> None:
    """Say what is waited for, kill CHILD and end."""
    faulthandler.dump_traceback()
    child.kill()
    os._exit(1)


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--after", type=float, default=0.0)
    parser.add_argument("--once", type=Path)
    parser.add_argument("--patience", type=float, default=40.0)
    parser.add_argument("events")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with subprocess.Popen(
        options.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        late = threading.Timer(options.patience, give_up, [child])
        late.daemon = True
        late.start()
        wait_until_ready(child, options.once)
        time.sleep(options.after)  # What runs then differs: the caller wants that.
        start = time.monotonic()
        for event in options.events.split(","):
            send(child, event)
        try:
            _, errors = child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            _, errors = child.communicate()
        late.cancel()
        print(child.returncode, time.monotonic() - start)
        print(errors, end="")


if __name__ == "__main__":
    main()
