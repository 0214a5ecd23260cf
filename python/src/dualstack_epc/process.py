# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command does around its work: how it ends."""

from __future__ import annotations

import signal
import sys

from dualstack_epc.net.system import ENDING, reason

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run(command: Callable[[], object]) -> NoReturn:
    """Call COMMAND and exit.

    The status is 0 in the end, also where SIGINT, SIGTERM or Ctrl-Break is it, and 1 on an OSError,
    which becomes one line.
    """
    for number in ENDING:
        signal.signal(number, _end)
    try:
        command()
    except OSError as error:
        sys.exit(f"dualstack-epc: {reason(error)}")
    sys.exit(0)


def _end(_number: int, _frame: object) -> NoReturn:
    """End the command as a signal asks: in order, with status 0."""
    raise SystemExit(0)
