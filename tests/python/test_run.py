# SPDX-License-Identifier: GPL-3.0-or-later
"""What run.py says of what it ran."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.mark.timeout(300)  # It loads all files of tests.
def test_only_that_matches_nothing_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "tests/run.py", "--pytest-only", "--only", "no-such-test"],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    if sys.platform == "win32":  # Whole files are skipped there, and counted.
        assert "dualstack: 0 passed, 0 failed" in run.stdout
        return
    assert "No test has a name that matches ONLY=no-such-test" in run.stdout
    assert run.stdout.endswith("dualstack: 0 passed, 0 failed, 0 skipped\n")


def test_only_takes_a_regular_expression_of_emacs() -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-c", "python/pyproject.toml", "--rootdir", ".",
            "--only", r"whole_and_byte_by_byte\|a_wrong_digit", "tests/python/test_frames.py",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "2 passed" in run.stdout, run.stdout


def test_only_that_is_no_regular_expression_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "tests/run.py", "--only", "[a"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("ONLY=[a is no regular expression: ")
    assert run.stderr.count("\n") == 1
