# SPDX-License-Identifier: GPL-3.0-or-later
"""Running uv, venv and pip: what they print is passed on, and they end when this process does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

from dualstack_epc.environments.errors import EnvironmentProblem
from dualstack_epc.environments.interpreters import clean_environment
from dualstack_epc.environments.jobs import SUSPENDED, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ROOM = 1_000_000  # bytes that are left on a disk that is not full
LAST = 5  # lines of a tool's output that its error has
# What the tools print, and what to tell of it.
FULL = "the disk is full: make room, and start the sidecar again"
ADVICE = {
    r"No space left on device|os error 28|not enough space on the disk|Disk quota exceeded": FULL,
    r"ensurepip is not available|No module named '?(?:venv|ensurepip)": (
        "this Python cannot make environments: type sudo apt-get install python3-venv, or"
        " install uv"
    ),
    r"NewConnectionError|ConnectTimeout|NameResolutionError|[Nn]ame resolution|ProxyError"
    r"|Failed to establish a new connection|Network is unreachable|dns error|tcp connect error"
    r"|Failed to fetch|error sending request|Could not connect|Connection (?:refused|timed out)": (
        "the package index cannot be reached: check the network, and start the sidecar again"
    ),
    r"Permission denied|PermissionError|Access is denied": (
        "it may not be written: look at who owns the directory"
    ),
    r"Invalid ?(?:[Rr]equirement|[Mm]arker)|[Ff]ailed to parse|Could not parse"
    r"|valid wheel filename": ("a requirement is not one: write it as name>=1.2"),
    r"No matching distribution|No solution found|Could not find a version|not found in the": (
        "no index that was reached has such a package for this Python: check the requirements, and"
        " the network"
    ),
}


class Runner:
    """Runs one tool after another; `stop`, from any thread, ends the one that runs."""

    def __init__(self, say: Callable[[str], object], keep_open: Sequence[int] = ()) -> None:
        """Pass lines of output to SAY.

        The descriptors KEEP_OPEN, locks, stay held while a tool runs, even if this process dies.
        """
        self._say = say
        self._keep_open = keep_open if os.name == "posix" else ()
        self._job: Job | None = None
        self._stopped = False

    def run(self, what: str, command: Sequence[str], directory: Path) -> None:
        """Run COMMAND in DIRECTORY; raise `EnvironmentProblem`, naming WHAT, if it fails."""
        self._say("$ " + " ".join(command))
        last: deque[str] = deque(maxlen=200)
        try:
            child = subprocess.Popen(
                command, cwd=directory, env=clean_environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=os.name == "posix", pass_fds=self._keep_open,
                creationflags=SUSPENDED,
            )  # fmt: skip
        except OSError as error:
            raise EnvironmentProblem(f"{what} does not start: {error}") from error
        self._job = Job(child)
        if self._stopped:
            self.stop()
        with child:
            assert child.stdout is not None  # noqa: S101, it is a pipe
            for line in map(_text, child.stdout):
                last.append(line)
                self._say(line)
        if child.returncode != 0:
            text = _failure(what, child.returncode, list(last), full=_is_full(directory))
            raise EnvironmentProblem(text)

    def stop(self) -> None:
        """End the tool that runs, with all that it has started, and every later one."""
        self._stopped = True
        if self._job:
            self._job.end()


def _text(line: bytes) -> str:
    """Return LINE of a tool's output: uv's is UTF-8, pip's on Windows in the system's code page."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("mbcs" if sys.platform == "win32" else "utf-8", "replace")
    return text.rstrip()


def _is_full(directory: Path) -> bool:
    """Return whether there is nearly no room where DIRECTORY is: venv does not say so itself."""
    try:
        return shutil.disk_usage(directory).free < ROOM
    except OSError:
        return False


def _failure(what: str, status: int, lines: list[str], *, full: bool) -> str:
    """Return what to say of WHAT, which ended with STATUS after it printed LINES.

    FULL says that the disk is.
    """
    text = "\n".join(lines)
    found = next((advice for pattern, advice in ADVICE.items() if re.search(pattern, text)), "")
    advice = FULL if full else found
    tail = [line for line in lines if line.strip()][-LAST:]
    head = f"{what} failed, with status {status}" + (f": {advice}" if advice else "")
    return "\n".join([head, *tail])
