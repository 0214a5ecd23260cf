# SPDX-License-Identifier: GPL-3.0-or-later
"""python-epc's own tests, against our server, on every Python that is here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import epc
import pytest

from conftest import ROOT, SUPPORT

if TYPE_CHECKING:
    from collections.abc import Iterator


def candidates() -> Iterator[str]:
    """Generate file names of what may be interpreters of this machine."""
    yield sys.executable
    for minor in range(10, 20):
        if found := shutil.which(f"python3.{minor}"):
            yield found
    with contextlib.suppress(OSError, RuntimeError):  # Without a home, or with another's.
        yield from map(str, Path.home().glob(".pyenv/versions/*/bin/python3"))


def pythons() -> dict[str, str]:
    """Return the interpreters of this machine from 3.10 on, by version."""
    found: dict[str, str] = {}
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            version = subprocess.run(
                [candidate, "-c", script], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            if tuple(map(int, version.split("."))) >= (3, 10):
                found.setdefault(version, candidate)
    return found


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("version", "python"), pythons().items(), ids=list(pythons()))
def test_its_61_tests_pass_with_no_skip(version: str, python: str) -> None:
    packages = Path(epc.__file__).parents[1]  # They are pure Python, as is ours.
    run = subprocess.run(
        [python, str(SUPPORT / "python_epc_suite.py")],
        env={
            **os.environ,
            # So that its clients wait for 10 s, not 1 s: under Wine that is too short for two.
            **({"TRAVIS": "yes"} if sys.platform == "win32" else {}),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "python/src"), str(packages)]),
        },
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert run.stdout.endswith("61 passed, 0 not\n"), f"Python {version}: {run.stderr[-3000:]}"
