# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module's file says that it needs: inline script metadata, as PEP 723 has it.

It is a block of comments: an opening line, TOML with `dependencies` and `requires-python`, and a
closing line.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualstack_epc.environments.errors import EnvironmentProblem

if TYPE_CHECKING:
    from pathlib import Path

OPENING = "# /// script"
CLOSING = "# ///"
# What reads TOML: Python's own from 3.11 on, or what is there where pip is.
READERS = ("tomllib", "tomli", "pip._vendor.tomli")


@dataclass(frozen=True)
class Needs:
    """The packages, as PEP 508 writes them, and the versions of Python that will do."""

    requirements: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()  # all of these specifiers must hold

    def __add__(self, other: Needs) -> Needs:
        """Return what both need."""
        return Needs(self.requirements + other.requirements, self.pythons + other.pythons)


def read(file: Path) -> Needs:
    """Return what the module in FILE says that it needs.

    Raise `EnvironmentProblem` if it cannot be read or understood, with the reason.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"{file} cannot be read: {error}") from error
    try:
        return parse(text)
    except ValueError as error:
        raise EnvironmentProblem(f"the metadata in {file} is wrong: {error}") from error


def parse(text: str) -> Needs:
    """Return what the module with TEXT needs; raise ValueError with what is wrong with that."""
    toml = block(text)
    if toml is None:
        return Needs()
    table: dict[str, Any] = _toml().loads(toml)
    requirements = table.get("dependencies", [])
    python = table.get("requires-python")
    if not isinstance(requirements, list) or not all(isinstance(r, str) for r in requirements):
        raise ValueError("dependencies must be a list of strings")
    if python is not None and not isinstance(python, str):
        raise ValueError("requires-python must be a string")
    return Needs(tuple(requirements), (python,) if python else ())


def block(text: str) -> str | None:
    """Return the TOML in the block ``script`` of a module's TEXT, or None without one.

    The block ends at the last closing line before a line that is no comment of its kind.
    """
    found = None
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.rstrip() != OPENING:
            continue
        content = _block_after(lines[number + 1 :])
        if content is None:
            continue
        if found is not None:
            raise ValueError("there are two blocks of it")
        found = content
    return found


def _block_after(lines: list[str]) -> str | None:
    """Return the content of the block that LINES go on with, or None if it is never closed."""
    body: list[str] = []
    end = None
    for line in lines:
        if line.rstrip() == CLOSING:
            end = len(body)
        elif not (line.rstrip() == "#" or line.startswith("# ")):
            break
        body.append(line[2:])
    return None if end is None else "\n".join(body[:end]) + "\n"


def _toml() -> Any:
    """Return a module that reads TOML."""
    for name in READERS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise EnvironmentProblem(
        "this Python has nothing that reads TOML: use Python 3.11 or later, or install pip for it"
    )
