# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``dualstack-epc environment``, which Emacs runs before a sidecar with requirements.

On standard output are what the tools print, and lines of ours, each a Lisp list:

    (dualstack-environment step 2 3 "installing 1 package and what they need")
    (dualstack-environment ready "/.../bin/python")
    (dualstack-environment failed "why, and what to do")
    (dualstack-environment has "python3.11-0123456789abcdef" ...)
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualstack_epc.environments import listing, metadata
from dualstack_epc.environments.errors import EnvironmentProblem
from dualstack_epc.environments.make import Maker
from dualstack_epc.environments.metadata import Needs
from dualstack_epc.wire.lisp import Symbol
from dualstack_epc.wire.printer import to_sexp

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(  # noqa: PLR0913, the command's options
    *,
    root: str,
    requirement: Sequence[str] | None = None,
    requires_python: str | None = None,
    script: Sequence[str] | None = None,
    user: str = "",
    rebuild: bool = False,
    list: bool = False,  # noqa: A002, the option's name
    exit_on_eof: bool = False,
) -> None:
    """Ensure the environment that the options ask for, and say where its Python is.

    Exit with status 1 if there is none.  With LIST, tell of those that are there instead.
    """
    maker = Maker(Path(root).expanduser().absolute(), _say, _step)
    _stop_on_signals(maker)
    if exit_on_eof:
        threading.Thread(target=_stop_on_eof, args=(maker,), daemon=True).start()
    if list:
        for each in listing.environments(maker.root):
            _tell("has", *each)
        return
    try:
        needs = Needs(tuple(requirement or ()), (requires_python,) if requires_python else ())
        for file in script or ():
            needs += metadata.read(Path(file))
        python = maker.ensure(needs, user, rebuild=rebuild)
    except EnvironmentProblem as error:
        _tell("failed", str(error))
        sys.exit(1)
    _tell("ready", str(python))


def _say(line: str) -> None:
    """Print LINE of a tool's output."""
    print(line, flush=True)  # noqa: T201, a command prints


def _step(number: int, count: int, what: str) -> None:
    """Tell of the step NUMBER of COUNT."""
    _tell("step", number, count, what)


def _tell(kind: str, *values: Any) -> None:
    """Print a line of ours."""
    line = to_sexp([Symbol("dualstack-environment"), Symbol(kind), *values])
    print(line.replace("\n", "\\n"), flush=True)  # noqa: T201


def _stop_on_eof(maker: Maker) -> None:
    """Stop MAKER when standard input ends: then nobody waits for it any longer."""
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    maker.stop()


def _stop_on_signals(maker: Maker) -> None:
    """Have signals that end this process stop MAKER, too, which then cleans up."""

    def stop(_number: int, _frame: object) -> None:
        maker.stop()

    for each in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, each):
            signal.signal(getattr(signal, each), stop)
