# SPDX-License-Identifier: GPL-3.0-or-later
"""S-expressions of lists, strings and numbers alone, read at the speed of Python's JSON.

Outside strings only brackets, blanks and ``nil`` differ then from JSON.  They are exchanged, and
what is JSON after that is read; anything else is left to the reader, which knows all there is.
"""

from __future__ import annotations

import re
from functools import lru_cache

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SHORT = 2000  # characters, below which the reader is as quick
MANY = 1_000_000  # lists, which the reader makes with less memory
DEEP = 100  # lists in lists, which Python's JSON takes at any time
_PLAIN = r'[-+0-9.e ()"\n]*'
_TRUE = r"(?<=[ (])t(?=[ )])"
_NIL = r"(?<=[ (])nil(?=[ )])"
_EXCHANGE = str.maketrans("() ", "[],")
_QUOTE, _BACKSLASH = "\udffd", "\udffe"  # stand-ins; no valid UTF-8 has them


class NotPlainError(Exception):
    """There is more in the text than can be read so."""


@lru_cache(1)
def _decoder() -> Callable[[str], Any]:
    """Return what decodes JSON."""
    import json  # noqa: PLC0415, 2 ms, which the start of a sidecar saves

    return json.JSONDecoder(strict=False).decode


def read(text: str) -> Any:
    """Return the value of TEXT, a list; raise `NotPlainError` if that takes the whole reader."""
    text = text.strip()
    escapes = "\\" in text
    if escapes:
        if _QUOTE in text or _BACKSLASH in text:
            raise NotPlainError
        text = text.replace("\\\\", _BACKSLASH).replace('\\"', _QUOTE)
        if "\\" in text:
            raise NotPlainError
    parts = text.split('"')
    outside = '"'.join(parts[::2])
    if "nil" in outside:
        outside = re.sub(_NIL, "()", outside)
    has_true = "t" in outside
    if not re.fullmatch(_PLAIN, re.sub(_TRUE, "0", outside) if has_true else outside):
        raise NotPlainError
    if has_true:
        outside = re.sub(_TRUE, "true", outside)
    _check_depth(outside)
    parts[::2] = outside.translate(_EXCHANGE).split('"')
    text = '"'.join(parts)
    if escapes:
        text = text.replace(_BACKSLASH, "\\\\").replace(_QUOTE, '\\"')
    try:
        return _decoder()(text)
    except (ValueError, RecursionError):
        raise NotPlainError from None


def _check_depth(outside: str) -> None:
    """Raise `NotPlainError` if the brackets in OUTSIDE may be nested deeper than `DEEP`.

    Each round takes the innermost lists away, so a few rounds tell what is flat.
    """
    if outside.count("(") > MANY:
        raise NotPlainError
    brackets = outside.translate(_ONLY_BRACKETS) if outside.count("(") > DEEP else ""
    for _ in range(8):
        if len(brackets) <= 2 * DEEP:
            return
        brackets = brackets.replace("()", "")
    raise NotPlainError


_ONLY_BRACKETS = {code: None for code in range(128) if chr(code) not in "()"}
