# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo's sidecar does: it takes its time, and tells how far it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


def count(steps: int) -> Generator[list[int], None, str]:
    """Count to STEPS slowly."""
    for step in range(1, steps + 1):
        time.sleep(0.05)
        yield [step, steps]
    return f"counted to {steps}"
