# SPDX-License-Identifier: GPL-3.0-or-later
"""sexpdata's types, as which functions written for python-epc know Lisp's."""

from __future__ import annotations

from typing import Any

from sexpdata import Brackets, Quoted, Symbol

from dualstack_epc.wire.lisp import Types


def _brackets(items: list[Any]) -> Any:
    """Return the `Brackets` of ITEMS.

    Its constructor, which takes other things too, needs ten times as long.
    """
    return tuple.__new__(Brackets, (items,))


SEXPDATA = Types(Symbol, _brackets, Quoted)
