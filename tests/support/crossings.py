# SPDX-License-Identifier: GPL-3.0-or-later
"""Send random values to Emacs, which sends them back, and compare.

    python tests/support/crossings.py PORT COUNT SEED

Each value comes back as the table in README.org says, or is refused with an error that says so.  The
last line is how many did which; a value that comes back as another ends it with status 1.
"""

from __future__ import annotations

import math
import random
import sys
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from dualstack_epc.rpc.client import connect
from dualstack_epc.rpc.errors import MethodError, RefusedError
from dualstack_epc.wire.errors import SendError
from dualstack_epc.wire.lisp import Cons, HashTable, Quoted, Symbol, Vector

BATCH = 50
CHARACTERS = "ab\\\"\n\t\r\x00\x7f;#'`,?()[]. äß日本🎉\x85\xa0\u1680\u2028\u2029\u3000\u200b\ufeff\ud7ff\ue000\U0010ffff"
NAMES = [
    "a",
    "nil",
    "t",
    ":key",
    "12",
    "-1",
    "1.5",
    "+",
    ".",
    "..",
    "",
    "?a",
    "a?",
    "1e5",
    "&rest",
    "#",
    "##",
    "-1e+NaN",
]


class Color(Enum):
    """An enumeration."""

    RED = "red"
    ONE = 1


class Point(NamedTuple):
    """A named tuple."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Row:
    """A dataclass."""

    name: Any
    size: Any


def text(source: random.Random, characters: str = CHARACTERS, most: int = 8) -> str:
    """Return a random string."""
    return "".join(source.choice(characters) for _ in range(source.randrange(most)))


def symbol(source: random.Random) -> Symbol:
    """Return a random symbol; a thousand names in all, for Emacs keeps them for good."""
    if source.random() < 0.5:
        return Symbol(source.choice(NAMES))
    return Symbol(text(random.Random(source.randrange(1000))))


def atom(source: random.Random) -> Any:  # noqa: PLR0911, a table
    """Return a random value without parts."""
    kind = source.randrange(13)
    if kind < 6:
        return (
            None, True, False, source.randrange(-1000, 1000),
            source.randrange(-(2**62), 2**62), source.randrange(10**source.randrange(1, 400)),
        )[kind]  # fmt: skip
    if kind == 6:
        return source.choice([0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, 5e-324, 1.5, 0.1])
    if kind == 7:
        return source.uniform(-1e6, 1e6)
    if kind == 8:
        return bytes(source.randrange(256) for _ in range(source.randrange(6)))
    if kind == 9:
        return bytearray(b"ab\xff")
    if kind == 10:
        return symbol(source)
    if kind == 11:
        return source.choice(list(Color))
    return text(source)


def value(source: random.Random, depth: int = 4) -> Any:  # noqa: C901, PLR0911, a table
    """Return a random value, nested up to DEPTH."""
    if depth == 0 or source.random() < 0.4:
        return atom(source)
    items = [value(source, depth - 1) for _ in range(source.randrange(5))]
    kind = source.randrange(11)
    if kind == 0:
        return tuple(items)
    if kind == 1:
        return Vector(items)
    if kind == 2:
        return Quoted(value(source, depth - 1))
    if kind == 3:
        return Cons(atom(source), value(source, depth - 1))
    if kind == 4:
        return {text(source, "ab:- ?#"): each for each in items}
    if kind == 5:
        return HashTable(((atom_key(source), each) for each in items), test=source.choice(["eq", "eql", "equal", "equal", "foo"]))  # fmt: skip
    if kind == 6:
        return Point(value(source, depth - 1), None)
    if kind == 7:
        return Row(value(source, depth - 1), items)
    if kind == 8:
        return OrderedDict((text(source, "xyz", 4), each) for each in items)
    if kind == 9:
        return source.choice([object(), lambda: 1, {1: 2}, "\ud800", 3j, {"a": 1, ":a": 2}])
    return items


def atom_key(source: random.Random) -> Any:
    """Return a random key."""
    key = atom(source)
    return bytes(key) if isinstance(key, bytearray) else key


def expected(item: Any) -> Any:  # noqa: C901, PLR0911, PLR0912, a table
    """Return what ITEM comes back as, by the table."""
    if isinstance(item, Enum):
        return expected(item.value)
    if item is None or item is False:
        return []
    if item is True or isinstance(item, (int, float)):
        return item
    if isinstance(item, Symbol):
        return {"nil": [], "t": True}.get(str(item), item)
    if isinstance(item, str):
        return item
    if isinstance(item, (bytes, bytearray)):
        return item.decode() if item.isascii() else bytes(item)
    if isinstance(item, Vector):
        return Vector(expected(each) for each in item)
    if isinstance(item, Quoted):
        return Quoted(expected(item.value))
    if isinstance(item, Cons):
        rest = expected(item.cdr)
        if isinstance(rest, Quoted):  # In Lisp 'x is the list (quote x).
            rest = [Symbol("quote"), rest.value]
        return (
            [expected(item.car), *rest]
            if isinstance(rest, list)
            else Cons(expected(item.car), rest)
        )
    if isinstance(item, HashTable):
        return HashTable(
            {hashable(key): expected(each) for key, each in item.items()}, test=item.test
        )
    if isinstance(item, Point):
        return expected(item._asdict())
    if isinstance(item, Row):
        return expected({"name": item.name, "size": item.size})
    if isinstance(item, dict):
        return [
            part
            for key, each in item.items()
            for part in (Symbol(key if key.startswith(":") else f":{key}"), expected(each))
        ]
    return [expected(each) for each in item]


def hashable(key: Any) -> Any:
    """Return what KEY comes back as; nil is a list, which is no key."""
    return expected(key)


def same(one: Any, other: Any) -> bool:  # noqa: PLR0911, a table
    """Return whether ONE is OTHER, down to the signs of zeros."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other) and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, HashTable):
        return one.test == other.test and same(
            [part for pair in one.items() for part in pair],
            [part for pair in other.items() for part in pair],
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Quoted):
        return same(one.value, other.value)
    if isinstance(one, Cons):
        return same(one.car, other.car) and same(one.cdr, other.cdr)
    return bool(one == other)


def main() -> None:
    """Run as the module's docstring says."""
    port, count, seed = map(int, sys.argv[1:4])
    source = random.Random(seed)
    crossed = refused = 0
    with connect("127.0.0.1", port) as client:

        def send(batch: list[Any]) -> None:
            nonlocal crossed, refused
            try:
                returned = client.call_sync("same", [batch], 60)
            except (SendError, MethodError, RefusedError):
                if len(batch) > 1:
                    half = len(batch) // 2
                    send(batch[:half])
                    send(batch[half:])
                else:
                    refused += 1
                return
            for each, back in zip(batch, returned, strict=True):
                if not same(wanted := expected(each), back):
                    print(f"{each!r} came back as {back!r}, not as {wanted!r}"[:2000])
                    sys.exit(1)
            crossed += len(batch)

        for start in range(0, count, BATCH):
            send([value(source) for _ in range(min(BATCH, count - start))])
        if client.call_sync("same", [1], 60) != 1:
            sys.exit("the connection is out of step")
    print(f"{crossed} crossed, {refused} refused")


if __name__ == "__main__":
    main()
