# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms of the package: who may import whom, and what is public."""

from __future__ import annotations

import subprocess
import sys

import pytest
import rooms

import dualstack_epc

from conftest import ROOT


def test_imports_go_one_way() -> None:
    wrong = [
        f"{place} imports {target}"
        for (source, target), places in rooms.edges().items()
        for place in places
        if rooms.room(target) not in rooms.ALLOWED[rooms.room(source)] | {rooms.room(source)}
    ]
    assert not wrong


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for source, target in rooms.edges():
        graph.setdefault(source, set()).add(target)
    assert rooms.cycle(graph) == []


def test_a_circle_is_found() -> None:
    assert rooms.cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_imports_for_type_checkers_and_in_functions_count() -> None:
    found = {target for _, target in rooms.edges()}
    assert "dualstack_epc.net.hello" in found  # in a function of cli
    assert ("dualstack_epc.net.acceptor", "dualstack_epc.net.listener") in rooms.edges()


@pytest.mark.parametrize("name", dualstack_epc.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(dualstack_epc, name).__name__ == name
    assert name in dir(dualstack_epc)


def test_public_names_are_loaded_when_they_are_used() -> None:
    script = (
        "import sys, dualstack_epc\n"
        "assert 'DualStackEPCServer' in dir(dualstack_epc)\n"
        "print(sorted(m for m in sys.modules if m.startswith('dualstack_epc.')))\n"
        "from dualstack_epc import Server, Symbol, connect, current_client, dial, open_listener\n"
        "print('epc' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\nFalse\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = dualstack_epc.nonesuch  # type: ignore[attr-defined]


def test_type_checkers_know_the_public_names() -> None:
    pytest.importorskip("mypy")
    names = ", ".join(dualstack_epc.__all__)
    script = f"from dualstack_epc import {names}\nreveal_type(open_listener())\n"
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "python/pyproject.toml",
         "-c", script],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "dualstack_epc.net.listener.Listener" in run.stdout
