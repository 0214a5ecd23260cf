# SPDX-License-Identifier: GPL-3.0-or-later
"""Lisp's types that Python has no counterpart of.

`Symbol`, `Brackets` (a vector), `Quoted` and `String` are sexpdata's own, so that code written for
python-epc goes on working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sexpdata import Brackets, Delimiters, Parens, Quoted, String, Symbol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

__all__ = [
    "Brackets", "Cons", "Delimiters", "HashTable", "Parens", "Quoted", "String", "Symbol",
]  # fmt: skip


class Cons:
    """A pair whose second part is no list: ``(a . b)`` is ``Cons(a, b)``.

    ``(a b . c)`` is ``Cons(a, Cons(b, c))``.  Pairs do not change, and are equal by their parts.
    """

    __slots__ = __match_args__ = ("car", "cdr")

    car: Any
    cdr: Any

    def __init__(self, car: Any, cdr: Any) -> None:
        """Make the pair of CAR and CDR."""
        object.__setattr__(self, "car", car)
        object.__setattr__(self, "cdr", cdr)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        """Refuse to change the pair."""
        raise AttributeError(f"a Cons does not change: {name}")

    def __reduce__(self) -> tuple[type[Cons], tuple[Any, Any]]:
        """Return how to copy and pickle the pair."""
        return type(self), (self.car, self.cdr)

    def __eq__(self, other: object) -> bool:
        """Return whether OTHER is a pair of equal parts."""
        return isinstance(other, Cons) and (self.car, self.cdr) == (other.car, other.cdr)

    def __hash__(self) -> int:
        """Return a number that is the same for equal pairs."""
        return hash((self.car, self.cdr))

    def __repr__(self) -> str:
        """Return the pair as Python code."""
        return f"Cons(car={self.car!r}, cdr={self.cdr!r})"


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
