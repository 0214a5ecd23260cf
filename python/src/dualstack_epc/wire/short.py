# SPDX-License-Identifier: GPL-3.0-or-later
"""Short messages of lists, names, integers and strings alone, as most of them are.

They need neither the reader's patterns nor JSON: a sidecar answers its first calls before either
is loaded.  Once JSON is, `plain` is quicker.  Whatever has more in it is left to those.
"""

from __future__ import annotations

from dualstack_epc.wire.lisp import OURS, Types

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from typing import Any

SHORT = 100  # bytes, up to which this is quicker than the reader
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


def read_short(payload: bytes, types: Types = OURS) -> list[Any] | None:
    """Return the list that PAYLOAD, in UTF-8, stands for; None where that takes the reader."""
    parts = payload.split(b'"')
    if b"\\" in payload or len(parts) % 2 == 0:
        return None
    outer: list[list[Any]] = []
    items: list[Any] = []
    try:
        for number, part in enumerate(parts):
            if number % 2:
                items.append(part.decode())
                continue
            for word in part.replace(b"(", b" ( ").replace(b")", b" ) ").split():
                if word == b"(":
                    outer.append(items)
                    items = []
                elif word == b")":
                    outer[-1].append(items)
                    items = outer.pop()
                else:
                    items.append(_atom(word, types))
    except (IndexError, ValueError):
        return None
    whole = not outer and len(items) == 1 and isinstance(items[0], list)
    return items[0] if whole else None


def _atom(word: bytes, types: Types) -> Any:
    """Return what WORD stands for; raise ValueError where that takes the reader."""
    if word.isdigit():
        return int(word)
    if word.translate(None, _LETTERS):
        raise ValueError
    if word == b"nil":
        return []
    return True if word == b"t" else types.symbol(word.decode())
