# SPDX-License-Identifier: GPL-3.0-or-later
"""Python values to S-expressions, in the syntax of Emacs Lisp's reader.

The table of what becomes what is in README.org.  A value that cannot cross is a `SendError` that
names it; nothing is changed silently.  There is no recursion, so depth is bounded by `DEPTH` alone.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from itertools import islice

from dualstack_epc.wire.errors import OversizeError, SendError
from dualstack_epc.wire.frames import LIMIT
from dualstack_epc.wire.lisp import TESTS, Cons, HashTable, Quoted, Symbol, Vector

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

DEPTH = 1000  # of lists in lists
LONG = 10**4300  # Python refuses to convert longer integers to decimal, as that is not linear

SHORT = 64  # characters of a name that is remembered
LONG_LIST = 16  # items; a look at all of their types is not worth it in a shorter list

# What Emacs may read as a number where a symbol is meant.
NUMERIC = re.compile(r"[-+]?\.?[0-9]")
PLAIN_SYMBOL = re.compile(r"[A-Za-z_*/+<>=!$%^&|~:@{}-][A-Za-z0-9_*/+<>=!$%^&|~:@{}?.-]*")
# Each of these ends a symbol, or begins something else, unless a backslash is before it.
SPECIAL = re.compile(r"[\x00-\x20\x7f-\xa0\"';()\[\],`\\?#.]|\s")


class _Raw(str):
    """Text that is an S-expression already."""

    __slots__ = ()


_DOT = _Raw(".")


def to_sexp(value: Any) -> str:  # noqa: C901, PLR0912, PLR0915, one loop is what makes it fast
    """Return VALUE as an S-expression; raise `SendError` if it cannot be one."""
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
                elif len(item) >= LONG_LIST and (text := _uniform(item)):
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
                return "".join(out)
            add(close)
            iterator, close = stack.pop()
            space = " "
        if len(stack) > DEPTH:
            raise SendError(f"a value nested deeper than {DEPTH:,} lists cannot be sent")


def encode_value(value: Any) -> bytes:
    """Return VALUE as an S-expression in UTF-8; raise `SendError` if it cannot be one."""
    text = to_sexp(value)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise SendError(f"a string with the lone surrogate U+{code:04X} cannot be sent") from None


def _uniform(items: list[Any] | tuple[Any, ...]) -> str | None:
    """Return the list of ITEMS if they are all strings, integers or floats; else None.

    These are the big ones, and are written at the speed of C.
    """
    kinds = set(map(type, items))
    if len(kinds) > 1:
        return None
    kind = kinds.pop()
    if kind is str:
        body = '" "'.join(items)
        if "\\" not in body and body.count('"') == 2 * len(items) - 2:
            return f'("{body}")'
    elif kind is int and min(items) > -LONG and max(items) < LONG:
        return f"({' '.join(map(str, items))})"
    elif kind is float and all(map(math.isfinite, items)):
        return f"({' '.join(map(repr, items))})"
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
    numeric = NUMERIC.match(name)
    if PLAIN_SYMBOL.fullmatch(name) and not numeric:
        return name
    if not name:
        return "##"
    quoted = SPECIAL.sub(lambda match: "\\" + match.group(), name)
    return "\\" + quoted if numeric and not quoted.startswith("\\") else quoted


def _symbol(name: str) -> str:
    """Return the symbol called NAME; only short ones are remembered."""
    return _short_symbol(name) if len(name) <= SHORT else _short_symbol.__wrapped__(name)


def _integer(value: int) -> str:
    """Return VALUE, of any size; a long one in hexadecimal, which is linear."""
    if -LONG < value < LONG:
        return int.__repr__(value)
    return f"#x{value:x}"


def _bytes(value: bytes) -> str:
    """Return VALUE as a unibyte string."""
    text = "".join(
        f"\\{byte:03o}" if byte > 0x7E or byte < 0x20 else chr(byte)  # noqa: PLR2004
        for byte in value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    )
    return f'"{text}"'


def _other(item: Any) -> tuple[str, Iterator[Any] | None, str]:  # noqa: PLR0911, a table
    """Return what ITEM, of a rarer type, begins with, what is in it, and what it ends with.

    For an atom that is (TEXT, None, "").
    """
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
        return _bytes(bytes(item)), None, ""
    if isinstance(item, Quoted):
        return "'", iter((item.value,)), ""
    return _container(item)


def _container(item: Any) -> tuple[str, Iterator[Any] | None, str]:  # noqa: PLR0911, a table
    """Return what `_other` returns, for an ITEM with others in it."""
    if isinstance(item, Vector):
        return "[", iter(item), "]"
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
    if isinstance(rest, (list, tuple)) and not hasattr(rest, "_asdict"):
        yield from rest
    elif rest is not None and rest is not False:
        yield _DOT
        yield rest


def describe(item: Any) -> str:
    """Return a short description of ITEM, whatever its repr does."""
    try:
        text = str.__str__(repr(item))  # It may be of a subclass, with methods of its own.
    except BaseException:  # noqa: BLE001, a hostile repr must not cost the caller its reply
        text = "(its repr fails)"
    if len(text) > 100:  # noqa: PLR2004
        text = text[:97] + "..."
    return f"{type(item).__name__} {text}"
