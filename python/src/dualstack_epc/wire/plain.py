# SPDX-License-Identifier: GPL-3.0-or-later
"""S-expressions of lists, strings and numbers alone, read at the speed of Python's JSON.

Outside strings only brackets, blanks, ``nil`` and ``t`` differ then from JSON.  They are exchanged,
and what is JSON after that is read; anything else is left to the reader, which knows all there is.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SHORT = 2000  # bytes, up to which the reader does as well for a few messages
FEW = 20
MANY = 1_000_000  # lists, which the reader makes with less memory
DEEP = 100  # lists in lists, which Python's JSON takes at any time
_PLAIN = b'0123456789-+.e ()"\n\t'
_TRUE = rb"(?<=[ (])t(?=[ )])"
_NIL = rb"(?<=[ (])nil(?=[ )])"
_EXCHANGE = bytes.maketrans(b"() ", b"[],")
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"()")
_QUOTE, _BACKSLASH = b"\xff", b"\xfe"  # stand-ins; no UTF-8 has them


class NotPlainError(Exception):
    """There is more in the text than can be read so."""


class _Json:
    """Python's JSON, which takes 2 ms to load: a start does without, and so do a few messages."""

    def __init__(self) -> None:
        self.scan: Callable[[str, int], tuple[Any, int]] | None = None
        self.seen = 0  # short messages, until JSON is loaded

    def load(self) -> Callable[[str, int], tuple[Any, int]]:
        """Return what reads JSON at a position of a text, and tells where it ends."""
        import json  # noqa: PLC0415, see above

        self.scan = json.JSONDecoder(strict=False).raw_decode
        return self.scan


_json = _Json()


def worthwhile(payload: bytes) -> bool:
    """Return whether `read` may be quicker for a part of PAYLOAD than the reader."""
    if _json.scan is not None or len(payload) > SHORT:
        return True
    _json.seen += 1
    return _json.seen > FEW


def read(text: bytes) -> Any:
    """Return the value of TEXT, a list; raise `NotPlainError` if that takes the whole reader."""
    text = text.strip()
    escapes = b"\\" in text
    if escapes:
        if _QUOTE in text or _BACKSLASH in text:
            raise NotPlainError
        text = text.replace(b"\\\\", _BACKSLASH).replace(b'\\"', _QUOTE)
        if b"\\" in text:
            raise NotPlainError
    parts = text.split(b'"')
    outside = b'"'.join(parts[::2]) if len(parts) > 1 else text
    if outside.translate(None, _PLAIN):
        outside = _constants(outside)
    _check_depth(outside)
    outside = outside.translate(_EXCHANGE)
    if len(parts) > 1:
        parts[::2] = outside.split(b'"')
        outside = b'"'.join(parts)
    if escapes:
        outside = outside.replace(_BACKSLASH, b"\\\\").replace(_QUOTE, b'\\"')
    try:
        json = outside.decode()
        value, end = (_json.scan or _json.load())(json, 0)
    except (ValueError, RecursionError):
        raise NotPlainError from None
    if end != len(json):
        raise NotPlainError
    return value


def _constants(outside: bytes) -> bytes:
    """Return OUTSIDE, where there are no strings, with ``nil`` and ``t`` as JSON has them."""
    outside = re.sub(_NIL, b"()", outside)
    if re.sub(_TRUE, b"0", outside).translate(None, _PLAIN):
        raise NotPlainError
    return re.sub(_TRUE, b"true", outside)


def _check_depth(outside: bytes) -> None:
    """Raise `NotPlainError` if the brackets in OUTSIDE may be nested deeper than `DEEP`.

    Each round takes the innermost lists away, so a few rounds tell what is flat.
    """
    count = outside.count(b"(")
    if count <= DEEP:
        return
    if count > MANY:
        raise NotPlainError
    brackets = outside.translate(None, _NO_BRACKETS)
    for _ in range(8):
        if len(brackets) <= 2 * DEEP:
            return
        brackets = brackets.replace(b"()", b"")
    raise NotPlainError
