# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of how long something takes, and what is told of them."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 200  # samples of one thing
SECONDS = 1.0  # after which three samples are enough


class Spread(TypedDict):
    """The median of samples, their quartiles, all in seconds, and how many there were."""

    median: float
    low: float
    high: float
    samples: int


Table = dict[str, dict[str, Spread | None]]  # by peer and by what was measured; None: it failed


def sample(function: Callable[[], object]) -> list[float]:
    """Return how many seconds each call of FUNCTION takes, after one that does not count."""
    function()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 3 or (len(times) < LIMIT and time.perf_counter() < end):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def spread(times: list[float]) -> Spread | None:
    """Return what TIMES come to, or None if there are none."""
    if not times:
        return None
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if times[1:] else times * 3
    low, median, high = (float(f"{value:.4g}") for value in quartiles)
    return {"median": median, "low": low, "high": high, "samples": len(times)}


def show(value: float) -> str:
    """Return VALUE, in seconds, as a short text."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms" if value >= 0.0001 else f"{value * 1e6:.0f} us"


def show_spread(cell: Spread | None) -> str:
    """Return CELL as its median, and in parentheses its quartiles."""
    if cell is None:
        return "fails"
    return f"{show(cell['median'])} ({show(cell['low'])} .. {show(cell['high'])})"


def print_table(title: str, table: Table) -> None:
    """Print TABLE, a line for each thing that was measured and each peer."""
    print(f"\n{title}: median (quartiles)")
    for row in rows(table):
        print(f"  {row}")
        for peer, cells in table.items():
            if row in cells:
                print(f"    {peer:<36}{show_spread(cells[row])}")


def rows(table: Table) -> list[str]:
    """Return what was measured in TABLE, in order."""
    return list(dict.fromkeys(row for cells in table.values() for row in cells))
