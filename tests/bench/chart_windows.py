# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw what README.org says of connecting in a Windows Emacs, as `make bench-windows` has measured.

    python tests/bench/chart_windows.py

writes tests/bench/results/windows.svg.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from chart import chart

if TYPE_CHECKING:
    from samples import Table

ROOT = Path(__file__).resolve().parents[2]
PEERS = ["Emacs, localhost", "dualstack, first", "dualstack, remembered"]
ROW = re.compile(
    r"^\| (127\.0\.0\.1|::1|both|neither)\S*.*?\| +(\d+) ms +\| +(\d+) ms +\| +(\d+) ms +\|$",
    re.MULTILINE,
)


def table() -> Table:
    """Return the times of the README's table, those of calls that wait."""
    found: Table = {peer: {} for peer in PEERS}
    for server, *times in ROW.findall((ROOT / "README.org").read_text(encoding="utf-8")):
        for peer, ms in zip(PEERS, times, strict=True):
            seconds = int(ms) / 1000
            found[peer].setdefault(
                f"server on {server}",
                {"median": seconds, "low": seconds, "high": seconds, "samples": 3},
            )
    return found


def draw() -> str:
    """Return the chart."""
    times = table()
    return chart("Connecting in a Windows Emacs", times, list(times[PEERS[0]]))


if __name__ == "__main__":
    (ROOT / "tests/bench/results/windows.svg").write_text(draw())
