# SPDX-License-Identifier: GPL-3.0-or-later
"""python-epc's own tests, against our server, on every Python that is here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import epc
import pytest

from conftest import ROOT, SUPPORT


def pythons() -> dict[str, str]:
    """Return the interpreters of this machine from 3.10 on, by version."""
    found: dict[str, str] = {}
    places = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    places += Path.home().glob(".pyenv/versions/*/bin")
    candidates = [sys.executable, *(str(f) for d in places for f in sorted(d.glob("python3.*")))]
    for candidate in candidates:
        if re.search(r"[/\\]python(3\.\d+)?(\.exe)?$", candidate):
            script = "import sys; print('%d.%d' % sys.version_info[:2])"
            run = subprocess.run(
                [candidate, "-c", script], capture_output=True, text=True, check=False
            )
            version = run.stdout.strip()
            if run.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 10):
                found.setdefault(version, candidate)
    return found


@pytest.mark.parametrize(("version", "python"), pythons().items(), ids=list(pythons()))
def test_its_61_tests_pass_with_no_skip(version: str, python: str) -> None:
    packages = Path(epc.__file__).parents[1]  # They are pure Python, as is ours.
    run = subprocess.run(
        [python, str(SUPPORT / "python_epc_suite.py")],
        env={
            **os.environ,
            # So that its clients wait for 10 s, not 1 s, and skip nothing on a busy machine.
            "TRAVIS": "yes",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "python/src"), str(packages)]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.endswith("61 passed, 0 not\n"), f"Python {version}: {run.stderr[-3000:]}"
