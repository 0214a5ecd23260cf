# SPDX-License-Identifier: GPL-3.0-or-later
"""What environments there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from dualstack_epc.environments import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Listed(NamedTuple):
    """An environment: its directory's name, size in bytes, and what was noted of it.

    `state` is "runs", "broken" if its Python does not, or "half made".  `made` and `used` are
    seconds of the epoch, 0 if they are not known.
    """

    name: str
    size: int
    state: str
    made: int
    used: int
    python: str
    users: list[str]
    requirements: list[str]
    pythons: list[str]


def environments(root: Path) -> Iterator[Listed]:
    """Yield the environments below ROOT, by name.

    What a rebuilt one was is none of them: on Windows it stays while a sidecar runs in it.
    """
    try:
        directories = sorted(
            each
            for each in root.iterdir()
            if each.is_dir() and not each.name.startswith(make.FORMER)
        )
    except OSError:
        return
    for each in directories:
        content = make.record(each)
        state = "half made" if not content else "runs" if make.whole(each) else "broken"
        users, used = _users(each)
        yield Listed(
            each.name, _size(each), state, int(content.get("made", 0)), used,
            str(content.get("python", "")), users,
            list(content.get("requirements", [])), list(content.get("pythons", [])),
        )  # fmt: skip


def _users(environment: Path) -> tuple[list[str], int]:
    """Return the sidecars that use ENVIRONMENT, and when one last did."""
    try:
        files = sorted((environment / make.USERS).iterdir())
        times = [int(each.stat().st_mtime) for each in files]
    except OSError:
        return [], 0
    return [unquote(each.name) for each in files], max(times, default=0)


def _size(directory: Path) -> int:
    """Return how many bytes the files below DIRECTORY have."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118, quicker
            except OSError:
                continue
    return total
