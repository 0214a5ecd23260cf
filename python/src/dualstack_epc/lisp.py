# SPDX-License-Identifier: GPL-3.0-or-later
"""Lisp's types that Python has no counterpart of.

`Symbol`, `Brackets` (a vector), `Quoted` and `String` are sexpdata's own, so that code written for
python-epc goes on working.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sexpdata import Brackets, Delimiters, Parens, Quoted, String, Symbol

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Brackets", "Cons", "Delimiters", "HashTable", "Parens", "Quoted", "String", "Symbol",
]  # fmt: skip


@dataclass(frozen=True)
class Cons:
    """A pair whose second part is no list: ``(a . b)`` is ``Cons(a, b)``.

    ``(a b . c)`` is ``Cons(a, Cons(b, c))``.
    """

    car: Any
    cdr: Any


class HashTable(dict[Any, Any]):
    """An Emacs hash table: a dict that goes back as a hash table, not as a plist.

    `test` is the table's test: "eq", "eql" or "equal".
    """

    def __init__(
        self, items: Iterable[tuple[Any, Any]] | dict[Any, Any] = (), *, test: str = "equal"
    ) -> None:
        """Take ITEMS, pairs or a mapping, and the name of the TEST."""
        super().__init__(items)
        self.test = test
