# SPDX-License-Identifier: GPL-3.0-or-later
"""Lisp's types that Python has no counterpart of.

What they become in Emacs, and what comes from there, is in a table in README.org.  Their objects do
not change, and equal others of the same type that have equal parts: a `Symbol` is no string to
``==``, and a `Vector` no tuple.
"""

from __future__ import annotations

TYPE_CHECKING = False  # Importing typing for it takes longer than all the rest of this module.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn


class Symbol(str):
    """A symbol, or a keyword if its name begins with a colon; ``str()`` returns the name."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Return whether OTHER is a symbol of the same name."""
        return isinstance(other, Symbol) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Return whether OTHER is no symbol of the same name."""
        return not self == other

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        """Return the symbol as Python code."""
        return f"Symbol({str.__repr__(self)})"


class Vector(tuple["Any", ...]):
    """A vector, of the items of an iterable."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Return whether OTHER is a vector of equal items."""
        return isinstance(other, Vector) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Return whether OTHER is no vector of equal items."""
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        """Return the vector as Python code."""
        return f"Vector({list(self)!r})"


class _Parts:
    """What `Cons` and `Quoted` have in common: parts that do not change."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        """Refuse to change a part."""
        raise AttributeError(f"a {type(self).__name__} does not change: {name}")

    def _parts(self) -> tuple[Any, ...]:
        """Return the parts."""
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to copy and pickle the object."""
        return type(self), self._parts()

    def __eq__(self, other: object) -> bool:
        """Return whether OTHER is of this type and has equal parts."""
        return isinstance(other, type(self)) and self._parts() == other._parts()

    def __hash__(self) -> int:
        """Return a number that is the same for equal objects."""
        return hash((type(self), self._parts()))

    def __repr__(self) -> str:
        """Return the object as Python code."""
        return f"{type(self).__name__}({', '.join(map(repr, self._parts()))})"


class Cons(_Parts):
    """A pair whose second part is no list: ``(a . b)`` is ``Cons(a, b)``.

    ``(a b . c)`` is ``Cons(a, Cons(b, c))``.
    """

    __slots__ = __match_args__ = ("car", "cdr")

    car: Any
    cdr: Any

    def __init__(self, car: Any, cdr: Any) -> None:
        """Make the pair of CAR and CDR."""
        object.__setattr__(self, "car", car)
        object.__setattr__(self, "cdr", cdr)


class Quoted(_Parts):
    """A value behind a quote: ``'x`` is ``Quoted(Symbol("x"))``."""

    __slots__ = __match_args__ = ("value",)

    value: Any

    def __init__(self, value: Any) -> None:
        """Quote VALUE."""
        object.__setattr__(self, "value", value)


TESTS = frozenset({"eq", "eql", "equal"})


class HashTable(dict["Any", "Any"]):
    """An Emacs hash table: a dict that goes back as a hash table, not as a plist.

    `test` is the table's test: "eq", "eql" or "equal"; another cannot be sent.
    """

    def __init__(
        self, items: Iterable[tuple[Any, Any]] | dict[Any, Any] = (), *, test: str = "equal"
    ) -> None:
        """Take ITEMS, pairs or a mapping, and the name of the TEST."""
        super().__init__(items)
        self.test = test


class Types:
    """What a reader makes of symbols, vectors and quoted values.

    `symbol` is a subclass of str; the others are called with a list and with a value.
    """

    __slots__ = ("quoted", "symbol", "vector")

    def __init__(
        self,
        symbol: type[str],
        vector: Callable[[list[Any]], Any],
        quoted: Callable[[Any], Any],
    ) -> None:
        """Read with these."""
        self.symbol = symbol
        self.vector = vector
        self.quoted = quoted


OURS = Types(Symbol, Vector, Quoted)
