# SPDX-License-Identifier: GPL-3.0-or-later
"""Python values to S-expressions, in the syntax of Emacs Lisp's reader.

The table of what becomes what is in README.org.  A value that cannot cross is a `SendError` that
names it; nothing is changed silently.  There is no recursion, so depth is bounded by `DEPTH` alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from itertools import islice

from dualstack_epc.wire import plain
from dualstack_epc.wire.converters import registered, standard
from dualstack_epc.wire.describe import describe
from dualstack_epc.wire.errors import OversizeError, SendError
from dualstack_epc.wire.frames import LIMIT
from dualstack_epc.wire.lisp import TESTS, Cons, HashTable, Quoted, Symbol, Vector
from dualstack_epc.wire.patterns import re
from dualstack_epc.wire.raw import escaped, literal

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType
    from typing import Any

DEPTH = 1000  # of lists in lists
LONG = 10**4300  # Python refuses to convert longer integers to decimal, as that is not linear

SHORT = 64  # characters of a name that is remembered
BRIEF_TEXT = 64  # characters of a string that is printed at once, see `brief`
BRIEF_LIST = 5  # items of such a list
COLUMNS = 8  # levels of rows in rows that are written column by column
BLOB = 1000  # bytes, from which on they are not escaped if that is possible
LONG_LIST = 16  # items; a look at all of their types is not worth it in a shorter list

# What Emacs may read as a number where a symbol is meant.
NUMERIC = r"[-+]?\.?[0-9]"
PLAIN_SYMBOL = r"[A-Za-z_*/+<>=!$%^&|~:@{}-][A-Za-z0-9_*/+<>=!$%^&|~:@{}?.-]*"
# Each of these ends a symbol, or begins something else, unless a backslash is before it.
SPECIAL = r"[\x00-\x20\x7f-\xa0\"';()\[\],`\\?#.]|\s"


class _Raw(str):
    """Text that is an S-expression already."""

    __slots__ = ()


_DOT = _Raw(".")


def brief(value: Any) -> str | None:
    """Return VALUE as an S-expression if it is an atom or a few of them in a list, else None.

    Most replies are, and the loop for all of them takes long to begin.
    """
    kind = type(value)
    if kind is not list and kind is not tuple:
        return _brief_atom(value)
    if not value:
        return "nil"
    if len(value) > BRIEF_LIST:
        return None
    texts = []
    for item in value:
        if (text := _brief_atom(item)) is None:
            return None
        texts.append(text)
    return f"({' '.join(texts)})"


def _brief_atom(item: Any) -> str | None:
    """Return ITEM as an S-expression if it is a short atom of the usual types, else None."""
    kind = type(item)
    if kind is str:
        if len(item) > BRIEF_TEXT or '"' in item or "\\" in item:
            return None
        return f'"{item}"'
    if kind is int:
        return str(item) if -LONG < item < LONG else None
    if item is None or item is False:
        return "nil"
    return "t" if item is True else None


def to_sexp(value: Any) -> str:
    """Return VALUE as an S-expression; raise `SendError` if it cannot be one."""
    return "".join(_pieces(value))


def _pieces(  # noqa: C901, PLR0912, PLR0915, one loop is what makes it fast
    value: Any, blobs: dict[int, bytes] | None = None
) -> list[str]:
    """Return VALUE as an S-expression, in pieces; raise `SendError` if it cannot be one.

    If there is a dict BLOBS, long bytes are left out and put into it, by the number of the piece.
    """
    out: list[str] = []
    add = out.append
    stack: list[tuple[Iterator[Any], str]] = []
    iterator: Iterator[Any] = iter((value,))
    close = ""
    space = ""
    while True:
        for item in iterator:
            kind = type(item)
            if kind is str:
                if '"' in item or "\\" in item:
                    item = item.replace("\\", "\\\\").replace('"', '\\"')  # noqa: PLW2901
                add(f'{space}"{item}"')
            elif kind is int and -LONG < item < LONG:
                add(f"{space}{item}")
            elif kind is list or kind is tuple:
                if not item:
                    add(space + "nil")
                elif (
                    len(item) >= LONG_LIST
                    and len(stack) < DEPTH - COLUMNS
                    and (text := _uniform(item))
                ):
                    add(space + text)
                else:
                    add(space + "(")
                    stack.append((iterator, close))
                    iterator, close = iter(item), ")"
                    space = ""
                    break
            elif kind is dict and item:
                add(space + "(")
                stack.append((iterator, close))
                iterator, close = iter(_properties(item)), ")"
                space = ""
                break
            elif item is None or item is False:
                add(space + "nil")
            elif item is True:
                add(space + "t")
            elif kind is float:
                add(space + _float(item))
            elif kind is Symbol:
                add(space + _symbol(str.__str__(item)))
            elif kind is _Raw:
                add(space + item)
            elif blobs is not None and isinstance(item, (bytes, bytearray)) and len(item) > BLOB:
                add(space)
                blobs[len(out)] = literal(bytes(item))
                add("")
            else:
                text, inner, end = _other(item)
                add(space + text)
                if inner is not None:
                    stack.append((iterator, close))
                    iterator, close = inner, end
                    space = ""
                    break
            space = " "
        else:
            if not stack:
                return out
            add(close)
            iterator, close = stack.pop()
            space = " "
        if len(stack) > DEPTH:
            raise SendError(f"a value nested deeper than {DEPTH:,} lists cannot be sent")


def encode_value(value: Any, *, raw: bool = False, before: str = "", after: str = "") -> bytes:
    """Return VALUE as an S-expression in UTF-8; raise `SendError` if it cannot be one.

    RAW means that long bytes may stand in it as they are, for a reader that knows of that.  The
    texts BEFORE and AFTER come round it.
    """
    blobs: dict[int, bytes] = {}
    pieces = _pieces(value, blobs if raw else None)
    pieces[0] = before + pieces[0]
    pieces.append(after)
    if not blobs:
        return utf8("".join(pieces))
    payload = bytearray()
    start = 0
    for number, blob in blobs.items():
        payload += utf8("".join(pieces[start:number]))
        payload += blob
        start = number
    return bytes(payload + utf8("".join(pieces[start:])))


def utf8(text: str) -> bytes:
    """Return TEXT in UTF-8; raise `SendError` if it has a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise SendError(f"a string with the lone surrogate U+{code:04X} cannot be sent") from None


def _uniform(items: list[Any] | tuple[Any, ...]) -> str | None:
    """Return the list of ITEMS if they are all strings, integers, floats or equal rows; else None.

    These are the big ones, and are written at the speed of C.
    """
    if not plain.promising(items):
        return None
    if (text := plain.write(items)) is not None:
        return text
    texts = _column(items, COLUMNS)
    return None if texts is None else f"({' '.join(texts)})"


def _column(items: Sequence[Any], depth: int) -> Iterable[str] | None:  # noqa: C901, PLR0911, a table
    """Return the texts of ITEMS if they are of one type, and it is a plain one; else None.

    Rows of equal length are written column by column, DEPTH levels deep.
    """
    kinds = set(map(type, items))
    if len(kinds) > 1:
        return None
    kind = kinds.pop()
    if kind is str:
        body = '"'.join(items)
        if "\\" not in body and body.count('"') == len(items) - 1:
            return [f'"{item}"' for item in items]
    elif kind is int:
        if min(items) > -LONG and max(items) < LONG:
            return map(str, items)
    elif kind is float:
        if all(map(math.isfinite, items)):
            return map(repr, items)
    elif kind in {list, tuple} and depth > 0:
        sizes = set(map(len, items))
        if len(sizes) == 1 and 0 not in sizes and len(items) >= LONG_LIST:
            columns = []
            for column in zip(*items, strict=True):
                texts = _column(column, depth - 1)
                if texts is None:
                    return None
                columns.append(texts)
            return [f"({row})" for row in map(" ".join, zip(*columns, strict=True))]
    return None


def _float(value: float) -> str:
    """Return VALUE as Emacs writes it."""
    if math.isfinite(value):
        return float.__repr__(value)
    sign = "-" if math.copysign(1, value) < 0 else ""
    return f"{sign}0.0e+NaN" if math.isnan(value) else f"{sign}1.0e+INF"


@lru_cache(4096)
def _short_symbol(name: str) -> str:
    """Return the symbol called NAME, with backslashes where Emacs needs them."""
    numeric = re.match(NUMERIC, name)
    if re.fullmatch(PLAIN_SYMBOL, name) and not numeric:
        return name
    if not name:
        return "##"
    quoted = re.sub(SPECIAL, lambda match: "\\" + match.group(), name)
    return "\\" + quoted if numeric and not quoted.startswith("\\") else quoted


def _symbol(name: str) -> str:
    """Return the symbol called NAME; only short ones are remembered."""
    return _short_symbol(name) if len(name) <= SHORT else _short_symbol.__wrapped__(name)


def _integer(value: int) -> str:
    """Return VALUE, of any size; a long one in hexadecimal, which is linear."""
    if -LONG < value < LONG:
        return int.__repr__(value)
    return f"#x{value:x}"


def _other(item: Any) -> tuple[str, Iterator[Any] | None, str]:  # noqa: PLR0911, a table
    """Return what ITEM, of a rarer type, begins with, what is in it, and what it ends with.

    For an atom that is (TEXT, None, "").
    """
    if (convert := registered(item)) is not None:
        return "", iter((convert(item),)), ""
    if isinstance(item, Enum):
        return "", iter((item.value,)), ""
    if (module := sys.modules.get("sexpdata")) and isinstance(item, _classes(module)):
        return _sexpdata(item)
    if isinstance(item, Symbol):
        return _symbol(str(item)), None, ""
    if isinstance(item, str):
        return '"' + str.replace(item, "\\", "\\\\").replace('"', '\\"') + '"', None, ""
    if isinstance(item, int):
        return _integer(int(item)), None, ""
    if isinstance(item, float):
        return _float(float(item)), None, ""
    if isinstance(item, (bytes, bytearray)):
        return escaped(bytes(item)), None, ""
    if isinstance(item, Quoted):
        return "'", iter((item.value,)), ""
    return _container(item)


def _container(item: Any) -> tuple[str, Iterator[Any] | None, str]:  # noqa: C901, PLR0911, a table
    """Return what `_other` returns, for an ITEM with others in it."""
    if isinstance(item, Vector):
        return "[", iter(item), "]"
    if (convert := standard(item)) is not None:
        return "", iter((convert(item),)), ""
    if isinstance(item, Cons):
        return "(", _cells(item), ")"
    if isinstance(item, HashTable):
        if not (isinstance(item.test, str) and item.test in TESTS):
            raise SendError(f"a hash table with the test {describe(item.test)} cannot be sent")
        return f"#s(hash-table test {str.__str__(item.test)} data (", _flat(item), "))"
    if hasattr(item, "__to_lisp_as__"):
        return "", iter((item.__to_lisp_as__(),)), ""
    if isinstance(item, tuple) and hasattr(item, "_asdict"):
        return _plist(item._asdict())
    if hasattr(type(item), "__dataclass_fields__"):
        import dataclasses  # noqa: PLC0415, 4 ms; it is loaded where there is one

        names = [field.name for field in dataclasses.fields(item)]
        return _plist({name: getattr(item, name) for name in names})
    if isinstance(item, Mapping):
        return _plist(item)
    if isinstance(item, Iterable):
        return _sequence(item)
    raise SendError(f"{describe(item)} cannot be sent")


@lru_cache(1)
def _classes(module: ModuleType) -> tuple[type, ...]:
    """Return those classes of MODULE, sexpdata, that stand for Lisp's types."""
    found = [getattr(module, name, None) for name in ("Symbol", "Quoted", "Delimiters")]
    return tuple(each for each in found if isinstance(each, type))


def _sexpdata(item: Any) -> tuple[str, Iterator[Any] | None, str]:
    """Return what `_other` returns, for an ITEM of one of sexpdata's types.

    Only where somebody has loaded sexpdata there is one.
    """
    if hasattr(item, "opener"):
        return item.opener, iter(item.I), item.closer
    if hasattr(item, "x"):
        return "'", iter((item.x,)), ""
    return _symbol(str(item.value())), None, ""


def _sequence(items: Iterable[Any]) -> tuple[str, Iterator[Any] | None, str]:
    """Return what `_other` returns, for ITEMS that are to be a list.

    An endless iterator ends in an error, for each item takes two bytes at least.
    """
    found = list(islice(iter(items), LIMIT // 2 + 1))
    if len(found) > LIMIT // 2:
        raise OversizeError(f"{describe(items)} has more items than a frame can hold")
    return ("(", iter(found), ")") if found else ("nil", None, "")


def _plist(items: Mapping[Any, Any]) -> tuple[str, Iterator[Any] | None, str]:
    """Return what `_other` returns, for ITEMS with strings or symbols as keys."""
    return ("(", iter(_properties(items)), ")") if items else ("nil", None, "")


def _properties(items: Mapping[Any, Any]) -> list[Any]:
    """Return the keys of ITEMS, as keywords, and the values by turns."""
    parts = []
    seen = set()
    for key, value in items.items():
        if not isinstance(key, str):
            raise SendError(
                f"a dict with {describe(key)} as a key cannot be sent as a plist;"
                " HashTable(...) sends it as a hash table"
            )
        keyword = _keyword(str.__str__(key))
        if keyword in seen:
            raise SendError(f"a dict with two keys that become {keyword} cannot be sent")
        seen.add(keyword)
        parts.append(keyword)
        parts.append(value)
    return parts


def _keyword(name: str) -> _Raw:
    """Return the keyword for NAME; only short ones are remembered."""
    return _short_keyword(name) if len(name) <= SHORT else _short_keyword.__wrapped__(name)


@lru_cache(4096)
def _short_keyword(name: str) -> _Raw:
    """Return the keyword for NAME."""
    return _Raw(_symbol(name if name.startswith(":") else f":{name}"))


def _flat(items: Mapping[Any, Any]) -> Iterator[Any]:
    """Give the keys and values of ITEMS by turns.

    What Python tells apart, such as None and False, may be one key in Emacs.
    """
    seen = set()
    for key, value in items.items():
        text = to_sexp(key)
        if text in seen:
            raise SendError(f"a hash table with two keys that become {text[:80]} cannot be sent")
        seen.add(text)
        yield _Raw(text)
        yield value


def _cells(cell: Cons) -> Iterator[Any]:
    """Give the parts of CELL, with a dot before the last one unless that is a list."""
    rest: Any = cell
    while isinstance(rest, Cons):
        yield rest.car
        rest = rest.cdr
    if isinstance(rest, (list, tuple)) and not (
        isinstance(rest, Vector) or hasattr(rest, "_asdict")
    ):
        yield from rest
    elif rest is not None and rest is not False:
        yield _DOT
        yield rest
