# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command does around its work: how it ends."""

from __future__ import annotations

import sys

from dualstack_epc.net.system import end_by_signals, ignore_signals, open_streams, reason

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run(command: Callable[[], object]) -> NoReturn:
    """Call COMMAND and exit.

    The status is 0 in the end, also where SIGINT, SIGTERM or Ctrl-Break is it, and 1 on an OSError,
    which becomes one line.
    """
    open_streams()
    end_by_signals()
    try:
        command()
    except OSError as error:
        sys.exit(f"dualstack-epc: {reason(error)}")
    ignore_signals()
    sys.exit(0)
