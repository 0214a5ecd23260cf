# SPDX-License-Identifier: GPL-3.0-or-later
"""Which room of the Python package imports which: ``make rooms`` prints it.

Every import counts, also one inside a function and one for type checkers only.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "src" / "dualstack_epc"
NAME = PACKAGE.name
WAYS_TO_START = "cli"  # the files beside the rooms
PUBLIC = "__init__"
OTHERS = {"_sha2", "_sha256"}  # of the standard library, in later or earlier Pythons

# What each room may import of the package, and of other packages than the standard library.
ALLOWED = {
    PUBLIC: {"drop_in", "rpc", "net", "wire"},
    WAYS_TO_START: {"rpc", "net", "environments", PUBLIC},
    "drop_in": {"rpc", "net", "wire", "epc", "sexpdata"},
    "rpc": {"net", "wire"},
    "environments": {"wire"},
    "net": set(),
    "wire": set(),
}


def module_name(file: Path) -> str:
    """Return the dotted name of the module in FILE."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """Return the room of MODULE, a dotted name; for another package, its first name."""
    first, *rest = module.split(".")
    if first != NAME:
        return first
    if not rest:
        return PUBLIC
    return rest[0] if (PACKAGE / rest[0]).is_dir() else WAYS_TO_START


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the modules that FILE imports, as dotted names, and the lines."""
    modules = {module_name(each) for each in PACKAGE.rglob("*.py")}
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in modules else str(node.module)), node.lineno


def edges() -> dict[tuple[str, str], list[str]]:
    """Return who imports whom: pairs of modules, with the places.

    The standard library is left out.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for target, line in imports(file):
            if target.split(".")[0] not in sys.stdlib_module_names | OTHERS:
                place = f"{file.relative_to(PACKAGE)}:{line}"
                found.setdefault((module_name(file), target), []).append(place)
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules of GRAPH that import each other in a circle, or an empty list."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for target in sorted(graph.get(module, ())):
                if circle := walk(target, [*path, module]):
                    return circle
            done.add(module)
        return []

    for start in sorted(graph):
        if circle := walk(start, []):
            return circle
    return []


def main() -> None:
    """Print the rooms, each with those that it imports and how many imports that are."""
    counts: dict[str, dict[str, int]] = {name: {} for name in ALLOWED}
    for (source, target), places in edges().items():
        of, to = room(source), room(target)
        if of != to:
            counts[of][to] = counts[of].get(to, 0) + len(places)
    for name, targets in counts.items():
        what = "the public names" if name == PUBLIC else "ways to start" if name == "cli" else ""
        uses = ", ".join(f"{target} ({targets[target]})" for target in targets)
        print(f"{name:<12} -> {uses or 'the standard library alone':<40} {what}".rstrip())


if __name__ == "__main__":
    main()
