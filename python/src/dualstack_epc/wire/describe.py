# SPDX-License-Identifier: GPL-3.0-or-later
"""Values in the messages of errors: short, and at no cost, however large they are."""

from __future__ import annotations

import reprlib
from itertools import islice

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from typing import Any

    from dualstack_epc.wire.lisp import Cons, HashTable, Quoted, Vector

LENGTH = 100  # characters of a description
ITEMS = 50  # of a container, which are more than fit
LEVELS = 20


class _Repr(reprlib.Repr):
    """`repr`, but of the first items only, for Lisp's types as well."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = LEVELS
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = ITEMS
        self.maxdeque = self.maxarray = ITEMS
        self.maxstring = self.maxlong = self.maxother = 2 * LENGTH

    def repr_instance(self, x: Any, level: int) -> str:  # noqa: ARG002, reprlib's signature
        return repr(x)

    def repr_Vector(self, item: Vector, level: int) -> str:  # noqa: N802, that is the type's name
        return f"Vector({self.repr_list(list(islice(item, ITEMS + 1)), level)})"

    def repr_HashTable(self, item: HashTable, level: int) -> str:  # noqa: N802, as above
        return self.repr_dict(dict(islice(dict.items(item), ITEMS + 1)), level)

    def repr_Quoted(self, item: Quoted, level: int) -> str:  # noqa: N802, as above
        return f"Quoted({self.repr1(item.value, level - 1)})" if level > 0 else "..."

    def repr_Cons(self, item: Cons, level: int) -> str:  # noqa: N802, as above
        if level <= 0:
            return "..."
        return f"Cons({self.repr1(item.car, level - 1)}, {self.repr1(item.cdr, level - 1)})"


_short = _Repr()


def describe(item: Any) -> str:
    """Return a short description of ITEM, whatever its repr does."""
    try:
        text = str.__str__(_short.repr(item))  # It may be of a subclass, with methods of its own.
    except BaseException:  # noqa: BLE001, a hostile repr must not cost the caller its reply
        text = "(its repr fails)"
    if len(text) > LENGTH:
        text = text[: LENGTH - 3] + "..."
    return f"{class_name(item)} {text}"


def class_name(item: object) -> str:
    """Return the name of ITEM's class, which may have a class whose `__name__` raises."""
    name: str = type.__dict__["__name__"].__get__(type(item))
    return name
