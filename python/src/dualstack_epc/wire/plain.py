# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists, strings and numbers alone, read and written at the speed of Python's JSON.

Outside strings only brackets, blanks, ``nil`` and ``t`` differ then from JSON.  They are exchanged,
and what is JSON after that is read; anything else is left to the reader, which knows all there is.
Writing goes the other way, and leaves anything else to the printer.

Between two ends of this package such a value may also cross as JSON, if the reader has said that it
reads that: Emacs 30 does so faster than it reads S-expressions.  There are no objects in it, and no
brace.
"""

from __future__ import annotations

import marshal
from itertools import chain

from dualstack_epc.wire.errors import ReadError
from dualstack_epc.wire.patterns import re

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

SHORT = 2000  # bytes, up to which the reader does as well for a few messages
FEW = 20
MANY = 1_000_000  # lists, which the reader makes with less memory
DEEP = 100  # lists in lists, which Python's JSON takes at any time
LONG = 16  # items of a list that is worth a look at all of their types
LONG_TEXT = 500  # characters of a string that Emacs reads faster as JSON
WIDE = 16  # items of rows that are looked at column by column
DIGITS = 10_000  # in a row, which Emacs may take for a number that is too long
_LISTS: frozenset[type] = frozenset({list, tuple})
_BOTH: frozenset[type] = _LISTS | {
    str,
    int,
    float,
}  # what Lisp and JSON write alike, but for brackets and commas
_JSON: frozenset[type] = _BOTH | {bool, type(None)}
_PLAIN = b'0123456789-+.e ()"\n\t'
_TRUE = rb"(?<=[ (])t(?=[ )])"
_NIL = rb"(?<=[ (])nil(?=[ )])"
_EXCHANGE = bytes.maketrans(b"() ", b"[],")
_EXCHANGE_BACK = bytes.maketrans(b"[]()", b"()[]")
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"()")
_QUOTE, _BACKSLASH = b"\xff", b"\xfe"  # stand-ins; no UTF-8 has them


class NotPlainError(Exception):
    """There is more in the text than can be read so."""


class _Json:
    """Python's JSON, which takes 2 ms to load: a start does without, and so do a few messages."""

    def __init__(self) -> None:
        self.scan: Callable[[str, int], tuple[Any, int]] | None = None
        self.seen = 0  # short messages, until JSON is loaded
        self._reader: Callable[[str], Any] | None = None
        self._writers: dict[str, Callable[[Any], str]] = {}

    def load(self) -> Callable[[str, int], tuple[Any, int]]:
        """Return what reads JSON at a position of a text, and tells where it ends."""
        import json  # noqa: PLC0415, see above

        self.scan = json.JSONDecoder(strict=False).raw_decode
        return self.scan

    def read(self, text: str) -> Any:
        """Return the value of TEXT, JSON without objects."""
        if self._reader is None:
            import json  # noqa: PLC0415, see above

            self._reader = json.JSONDecoder(
                object_pairs_hook=_refuse, parse_constant=_refuse, strict=False
            ).decode
        return self._reader(text)

    def write(self, value: Any, comma: str) -> str:
        """Return VALUE in JSON, with COMMA between items; raise ValueError if it cannot be."""
        if comma not in self._writers:
            import json  # noqa: PLC0415, see above

            self._writers[comma] = json.JSONEncoder(
                ensure_ascii=False, allow_nan=False, check_circular=False, separators=(comma, ":")
            ).encode
        return self._writers[comma](value)


def _refuse(_: object) -> NoReturn:
    """Raise the error that something does not cross in JSON."""
    raise ReadError("JSON with objects, or with what is no JSON")


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


def read_json(payload: bytes) -> Any:
    """Return the value of PAYLOAD, JSON without objects; raise `ReadError`.

    Nothing is empty but the empty list, as in Lisp.
    """
    try:
        text = payload.decode()
        value = _json.read(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"JSON that cannot be read: {type(error).__name__}") from None
    return _without_empty(value) if "null" in text or "false" in text else value


def _without_empty(value: Any) -> Any:
    """Return VALUE, of JSON, with an empty list for each null and false in it."""
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return [] if value is None or value is False else value


def write_json(value: Any) -> str | None:
    """Return VALUE in JSON, or None if that does not carry it, or is no faster."""
    if not _worth_json(value):
        return None
    if type(value) is str:
        return _written_text(value)
    try:
        if not promising(value):
            return None
        # This takes no subclass, as JSON does, and is the quickest that looks at every type.
        marshal.dumps(value)
        text = _json.write(value, ",")
        if "{" in text:
            _count_lists(value, _JSON, DEEP)
            # Emacs knows that there is no object as there is no brace.
            text = text.replace("{", "\\u007b")
        _check_depth(text.encode().translate(_EXCHANGE_BACK))
    except (NotPlainError, TypeError, ValueError, RecursionError):
        return None
    return None if _has_long_number(text) else text


def _worth_json(value: Any) -> bool:
    """Return whether VALUE is a long string, or a list that is long or has something long."""
    if type(value) is str:
        return len(value) > LONG_TEXT
    if type(value) not in _LISTS:
        return False
    if len(value) >= LONG:
        return True
    for item in value:
        kind = type(item)
        if len(item) > LONG_TEXT if kind is str else kind in _LISTS and len(item) >= LONG:
            return True
    return False


def _written_text(text: str) -> str | None:
    """Return TEXT, a long string, in JSON without braces, or None if Emacs would not take it."""
    text = _json.write(text, ",").replace("{", "\\u007b")
    return None if _has_long_number(text) else text


def write(value: Sequence[Any]) -> str | None:
    """Return VALUE, a list or tuple, as an S-expression, or None if that takes the printer."""
    try:
        lists = 1 + _count_lists(value, _BOTH, DEEP)
        text = _json.write(value, " ")
    except (NotPlainError, ValueError, RecursionError):
        return None
    # If there are as many brackets as lists, there are none in strings.
    if "\\" in text or text.count("[") != lists or text.count("]") != lists:
        return None
    return text.replace("[", "(").replace("]", ")")


def promising(items: Sequence[Any]) -> bool:
    """Return whether the first of ITEMS may be plain, so that a look at all is worth it.

    Where rows have something else in them, the first one usually has it, too.
    """
    first = items[:1]
    for _ in range(3):
        if not set(map(type, first)) <= _JSON:
            return False
        first = [each for item in first if type(item) in _LISTS for each in item[:WIDE]]
    return True


def _count_lists(items: Sequence[Any], kinds: frozenset[type], depth: int) -> int:
    """Return how many lists are in ITEMS, up to DEPTH levels deep.

    Raise `NotPlainError` if there is anything but KINDS, or more levels.  What is of a subclass is
    something else.  The types are looked at by the level, or by columns, which are of few types.
    """
    found = set(map(type, items))
    if not found <= kinds or depth == 0:
        raise NotPlainError
    if not found & _LISTS:
        return 0
    lists = items if found <= _LISTS else [item for item in items if type(item) in _LISTS]
    flat = list(chain.from_iterable(lists))
    width = len(lists[0])
    if not (0 < width <= WIDE and width * len(lists) == len(flat)):
        width = 1
    columns = (flat[start::width] for start in range(width)) if flat else ()
    return len(lists) + sum(_count_lists(column, kinds, depth - 1) for column in columns)


def _has_long_number(text: str) -> bool:
    """Return whether TEXT may have more digits in a row than Emacs accepts."""
    digits = re.compile(f"[0-9]{{{DIGITS}}}")
    return any(digits.match(text, start) for start in range(0, len(text), DIGITS))
