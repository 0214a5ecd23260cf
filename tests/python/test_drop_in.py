# SPDX-License-Identifier: GPL-3.0-or-later
"""What code for python-epc finds unchanged: sexpdata's types, and that the core does without them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sexpdata
from sexpdata import Brackets, Parens, Quoted, String, Symbol

from dualstack_epc import Cons, HashTable, Vector
from dualstack_epc import Symbol as OurSymbol
from dualstack_epc.wire.printer import to_sexp

from conftest import ROOT

if TYPE_CHECKING:
    from dualstack_epc import DualStackEPCServer

    from epc_server import Raw

SOURCE = str(ROOT / "python" / "src")


class Key(Symbol):  # type: ignore[misc]
    """A user's own."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Symbol("a-b"), "a-b"), (Symbol("a b"), "a\\ b"), (Symbol("12"), "\\12"), (Key(":k"), ":k"),
        (String('s"'), '"s\\""'), (Quoted(Symbol("x")), "'x"), (Quoted([1, Symbol("y")]), "'(1 y)"),
        (Brackets([1, Symbol("x")]), "[1 x]"), (Brackets([]), "[]"), (Brackets({"a": 1}), "[:a 1]"),
        (Parens([1, Parens([])]), "(1 ())"), (Parens([1]), "(1)"), ({Symbol(":k"): Symbol("v")}, "(:k v)"),
        (Cons(Symbol("a"), Brackets([OurSymbol("b")])), "(a . [b])"),
        (HashTable({Symbol("k"): Quoted(1)}), "#s(hash-table test equal data (k '1))"),
    ],
)  # fmt: skip
def test_sexpdatas_values_are_printed(value: Any, text: str) -> None:
    assert to_sexp(value) == text


def test_functions_get_sexpdatas_types(server: DualStackEPCServer, raw: Raw) -> None:
    got: list[Any] = []
    server.register_function(lambda *args: got.extend(args), "take")
    raw.send("(call 1 take (sym :key [1 [v]] 'q (a . b) #s(hash-table data (k [])) `x \\12))")
    raw.receive()
    symbol, key, vector, quoted, pair, table, quasi, number = got
    assert [type(each) for each in (symbol, key, number)] == [Symbol] * 3
    assert (symbol, key, number) == (Symbol("sym"), Symbol(":key"), Symbol("12"))
    assert symbol.value() == "sym"
    assert vector == Brackets([1, Brackets([Symbol("v")])])
    assert quoted == Quoted(Symbol("q"))
    assert pair == Cons(Symbol("a"), Symbol("b"))
    assert table == {Symbol("k"): Brackets([])}
    assert quasi == [Symbol("`"), Symbol("x")]
    assert sexpdata.dumps([symbol, vector, quoted]) == "(sym [1 [v]] 'q)"


def test_calls_of_emacs_return_sexpdatas_types(server: DualStackEPCServer, raw: Raw) -> None:
    raw.send("(call 1 echo ())")
    raw.receive()
    future = server.clients[0].call_future("ask", [Symbol("a"), OurSymbol("b"), Vector([1])])
    asked = raw.receive()
    assert asked[3] == [OurSymbol("a"), OurSymbol("b"), Vector([1])]
    raw.send(f"(return {asked[1]} [x])")
    assert future.result(30) == Brackets([Symbol("x")])


def isolated(script: str) -> subprocess.CompletedProcess[str]:
    """Run SCRIPT with this package and the standard library alone."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({SOURCE!r})\n{script}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )


def test_the_core_needs_the_standard_library_alone() -> None:
    run = isolated(
        "import pkgutil, dualstack_epc\n"
        "for each in pkgutil.walk_packages(dualstack_epc.__path__, 'dualstack_epc.'):\n"
        "    if 'drop_in' not in each.name and not each.name.endswith('__main__'):\n"
        "        __import__(each.name)\n"
        "for name in dualstack_epc.__all__:\n"
        "    if 'DualStackEPC' not in name:\n"
        "        getattr(dualstack_epc, name)\n"
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_without_python_epc_the_drop_in_says_what_it_needs() -> None:
    run = isolated("from dualstack_epc import DualStackEPCServer")
    assert run.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: DualStackEPCServer needs the package epc, which is not here: install"
    )
