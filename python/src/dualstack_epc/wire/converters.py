# SPDX-License-Identifier: GPL-3.0-or-later
"""Types that cross as another: of the standard library, and by `register_converter`."""

from __future__ import annotations

import os
import sys

from dualstack_epc.wire.lisp import Cons, HashTable, Quoted, Symbol, Vector

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What crosses as itself, whatever is registered: the table promises it.
FIXED = (
    str, int, float, bool, type(None), list, tuple, dict, bytes, Symbol, Vector, Quoted, Cons,
    HashTable,
)  # fmt: skip
# Where a type of the standard library is from, and what its text is.
STANDARD: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("datetime", "date", lambda value: value.isoformat()),  # and datetime, which is one
    ("datetime", "time", lambda value: value.isoformat()),
    ("decimal", "Decimal", str),
    ("uuid", "UUID", str),
)

_registered: dict[type, Callable[[Any], Any]] = {}


def register_converter(kind: type, function: Callable[[Any], Any]) -> None:
    """Have every value of the class KIND, or of one below it, cross as what FUNCTION returns.

    FUNCTION is called with the value.  The class nearest to the value's own counts.  Raise
    TypeError if KIND is no class or FUNCTION cannot be called, ValueError for a class that crosses
    as it is.
    """
    if not isinstance(kind, type):
        raise TypeError(f"{kind!r} is no class")
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called")
    if kind in FIXED or kind is object:
        raise ValueError(f"{kind.__name__} crosses as it is")
    _registered[kind] = function


def registered(value: Any) -> Callable[[Any], Any] | None:
    """Return the function that is registered for VALUE, or None."""
    if _registered:
        for kind in type(value).__mro__:
            if kind in _registered:
                return _registered[kind]
    return None


def standard(value: Any) -> Callable[[Any], Any] | None:
    """Return the function that makes of VALUE, a standard type's, what is to cross, or None."""
    if isinstance(value, memoryview):
        return memoryview.tobytes
    if isinstance(value, os.PathLike):
        return os.fspath
    for name, kind_name, function in STANDARD:
        # Only where somebody has loaded the module there is such a value.
        module = sys.modules.get(name)
        kind = getattr(module, kind_name, None)
        if isinstance(kind, type) and isinstance(value, kind):
            return function
    return None
