# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a version of Python is one that will do: the specifiers of PEP 440, for releases."""

from __future__ import annotations

import re

CLAUSE = re.compile(r"(~=|===|==|!=|<=|>=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?\s*")

Version = tuple[int, ...]


def fits(version: Version, specifier: str) -> bool:
    """Return whether VERSION, that of a release, is one of SPECIFIER's, such as ">=3.11,<4".

    Raise ValueError if SPECIFIER is none, with the part that is not.
    """
    return all(_holds(version, *clause) for clause in _clauses(specifier))


def _clauses(specifier: str) -> list[tuple[str, Version, bool]]:
    """Return the parts of SPECIFIER: operator, version, and whether any that begin so are meant."""
    found = []
    for part in filter(None, (each.strip() for each in specifier.split(","))):
        match = CLAUSE.fullmatch(part)
        wild = bool(match and match[3])
        if not match or (wild and match[1] not in {"==", "!="}):
            raise ValueError(f"{part!r} says no version of Python: write it as >=3.11")
        wanted = tuple(int(number) for number in match[2].split("."))
        if match[1] == "~=" and len(wanted) < 2:  # noqa: PLR2004
            raise ValueError(f"{part!r} says no version of Python: ~= needs two numbers")
        found.append((match[1], wanted, wild))
    return found


def _holds(version: Version, operator: str, wanted: Version, wild: bool) -> bool:
    """Return whether VERSION OPERATOR WANTED is true; WILD means that WANTED ends in .*."""
    if operator == "~=":
        return version >= wanted and version[: len(wanted) - 1] == wanted[:-1]
    if wild:
        return (version[: len(wanted)] == wanted) == (operator == "==")
    width = max(len(version), len(wanted))
    left = version + (0,) * (width - len(version))
    right = wanted + (0,) * (width - len(wanted))
    return {
        "==": left == right, "===": left == right, "!=": left != right,
        "<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right,
    }[operator]  # fmt: skip
