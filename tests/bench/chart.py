# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of times as a chart, in SVG, on a logarithmic scale of milliseconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samples import Spread, Table

SHORTEST, DECADES = 1e-5, 6  # seconds at the left, and powers of ten from there to the right
LEFT, WIDTH, LINE = 210, 400, 18  # pixels


def chart(title: str, table: Table, only: list[str]) -> str:
    """Return the chart of the rows ONLY of TABLE: a bar to each median, a line for quartiles."""
    parts = [_text(5, 20, title, size=15)]
    y = 52
    for row in only:
        parts.append(_text(5, y + 13, row, weight="bold"))
        y += LINE
        for peer, cells in table.items():
            if row in cells:
                parts += _bar(y, peer, cells[row])
                y += LINE
        y += 6
    parts = _axis(y) + parts
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y + 6}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _axis(bottom: int) -> list[str]:
    """Return the scale at the top, with lines down to BOTTOM."""
    parts = [_text(5, 40, "log scale, ms")]
    for decade in range(DECADES + 1):
        x = LEFT + WIDTH * decade / DECADES
        parts.append(f'<path d="M{x:.0f} 44V{bottom}" stroke="#ddd"/>')
        parts.append(_text(x - 8, 40, _ms(SHORTEST * 10**decade)))
    return parts


def _ms(seconds: float) -> str:
    """Return SECONDS as a number of milliseconds, three digits of it."""
    ms = seconds * 1e3
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def _bar(y: int, peer: str, cell: Spread | None) -> list[str]:
    """Return the line for PEER's CELL at the height Y."""
    name = _text(20, y + 13, peer)
    if cell is None:
        return [name, _text(LEFT + 5, y + 13, "fails")]
    low, median, high = (_x(cell[key]) for key in ("low", "median", "high"))
    color = "#2a7" if peer.startswith("dualstack") else "#999"
    return [
        name,
        f'<rect x="{LEFT}" y="{y + 2}" width="{median - LEFT:.0f}" height="13" fill="{color}"/>',
        f'<path d="M{low:.0f} {y + 8}H{high:.0f}" stroke="black"/>',
        _text(max(median, high) + 5, y + 13, _ms(cell["median"]) + " ms"),
    ]


def _x(seconds: float) -> float:
    """Return where SECONDS are on the scale."""
    return LEFT + max(2, WIDTH * math.log10(seconds / SHORTEST) / DECADES)


def _text(x: float, y: int, text: str, size: int = 12, weight: str = "normal") -> str:
    """Return TEXT at X and Y."""
    return f'<text x="{x:.0f}" y="{y}" font-size="{size}" font-weight="{weight}">{text}</text>'
