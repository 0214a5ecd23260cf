# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare ways to connect to localhost, and to call, side by side; `make bench`.

Prints tables, and writes them and two charts to tests/bench/results.  What is not installed is
named, and not guessed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from chart import chart
from compare_connect import KINDS, connect_times, missing
from compare_epc import PAIRS, emacs_version, epc_times, open_times, stream_times
from samples import print_table

from conftest import ROOT

if TYPE_CHECKING:
    from samples import Table

RESULTS = ROOT / "tests" / "bench" / "results"
CHARTED_CALLS = [
    "small call", "64 calls at once", "20,000 rows to Emacs", "20,000 rows to Python",
    "1000 KB to Emacs", "1000 KB to Python",
]  # fmt: skip


def report(file: str, title: str, table: Table, charted: list[str]) -> None:
    """Print TABLE, and write it to FILE, and with a chart of the rows CHARTED."""
    print_table(title, table)
    (RESULTS / f"{file}.json").write_text(json.dumps(table, indent=1) + "\n")
    if charted:
        (RESULTS / f"{file}.svg").write_text(chart(f"{title}", table, charted))


def main() -> None:
    """Measure, print and write everything, or with the argument "epc" or "streams" a part."""
    RESULTS.mkdir(exist_ok=True)
    parts = {"connect": compare_connects, "epc": compare_calls, "streams": compare_streams}
    for name in sys.argv[1:] or parts:
        parts[name]()


def compare_connects() -> None:
    """Measure connecting."""
    for name in missing():
        print(f"{name} is not installed: not compared")
    report(
        "connect",
        "Connecting to localhost, a refusal takes a second",
        connect_times(),
        list(KINDS.values()),
    )
    report("open", "Connecting, by connections that are open", open_times(), [])


def compare_calls() -> None:
    """Measure calls, in the Emacs that EMACS names."""
    calls, ratios = epc_times()
    for name in PAIRS.keys() - calls.keys():
        print(f"{name}: not installed, not compared")
    version = emacs_version()
    name = f"epc-{version.split('.')[0]}"
    report(name, f"A call in Emacs {version}", calls, CHARTED_CALLS)
    (RESULTS / f"{name}-ratios.json").write_text(json.dumps(ratios, indent=1) + "\n")
    print(f"\nOur time / jsonrpc.el's, by rounds, in Emacs {version}: median (quartiles)")
    for row, cell in ratios.items():
        if cell:
            median, low, high = cell["median"], cell["low"], cell["high"]
            print(f"  {row:<24} {median:5.2f} ({low:.2f} .. {high:.2f})")


def compare_streams() -> None:
    """Measure what carries calls, in the Emacs that EMACS names."""
    title = f"A call in Emacs {emacs_version()}, by what carries it"
    report("streams", title, stream_times(), [])


if __name__ == "__main__":
    main()
