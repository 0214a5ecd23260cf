# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make` says where something is missing, and what run.py says of what it ran.

The installer itself is tried on new machines, by tests/fresh.sh.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT, SUPPORT

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ["sh", "dirname", "id", "sed", "grep", "tail", "mktemp", "rm", "cat", "env"]
PASTE = "sudo apt-get update && sudo apt-get install -y --no-install-recommends"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell: run it elsewhere")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return the only directory of the path of a machine with apt-get, and an ordinary user."""
    directory = tmp_path / "my 机" / "bin"
    directory.mkdir(parents=True)
    for tool in TOOLS:
        if found := shutil.which(tool):
            (directory / tool).symlink_to(found)
    program(directory / "apt-get", "exit 1")
    program(directory / "id", "echo 1000")
    return directory


def program(file: Path, body: str) -> None:
    """Make FILE a shell script."""
    file.unlink(missing_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def python_of(version: str) -> str:
    """Return the body of a program that is Python VERSION, as far as it is asked."""
    return f'case "$*" in --version) echo Python {version} ;; *version_info*) exit 1 ;; esac'


def need(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run need.sh with the MACHINE's programs."""
    return subprocess.run(
        [str(SUPPORT / "need.sh"), *arguments],
        env={"PATH": str(machine)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def emacs(machine: Path) -> None:
    """Put a real Emacs on the MACHINE."""
    found = shutil.which(os.environ.get("EMACS", "emacs"))
    if not found:
        pytest.skip("needs emacs (Debian: emacs-nox)")
    program(machine / "emacs", f'exec "{found}" "$@"')


def test_all_that_is_missing_is_named_in_one_line(machine: Path) -> None:
    run = need(machine, "python3")
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.endswith(f":  {PASTE} emacs-nox python3 python3-venv\n")


def test_only_what_is_missing_is_named(machine: Path) -> None:
    emacs(machine)
    run = need(machine, "python3")
    assert run.stderr.count("\n") == 1
    assert run.stderr.endswith(f":  {PASTE} python3 python3-venv\n")


def test_a_missing_venv_is_named(machine: Path) -> None:
    emacs(machine)
    program(machine / "python3", 'case "$*" in *ensurepip*) exit 1 ;; esac')
    run = need(machine, "python3")
    assert run.stderr.count("\n") == 1
    assert "Python's venv" in run.stderr
    assert run.stderr.endswith(f":  {PASTE} python3-venv\n")


def test_a_python_too_old_names_what_helps(machine: Path) -> None:
    emacs(machine)
    program(machine / "python3", python_of("3.9.2"))
    run = need(machine, "python3")
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    for word in ("Python 3.9.2", "3.10 or later", "uv python install", "pyenv install"):
        assert word in run.stderr


def test_a_python_too_old_after_an_installation_names_what_helps(machine: Path) -> None:
    emacs(machine)
    program(machine / "id", "echo 0")
    body = python_of("3.9.2").replace("$*", "\\$*")
    script = f'test "$1" = update || printf \'%s\\n\' "#!/bin/sh" "{body}" >"{machine}/python3"'
    program(machine / "apt-get", f'{script}\nchmod 755 "{machine}/python3" 2>/dev/null || true')
    (machine / "chmod").symlink_to(shutil.which("chmod") or "")
    run = need(machine, "python3")
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert lines[0].startswith("Missing: Python; installing:  sudo apt-get update")
    assert len(lines) == 2
    assert "Python 3.9.2" in lines[1]
    assert "uv python install" in lines[1]


def test_another_python_of_the_path_is_found(machine: Path) -> None:
    emacs(machine)
    program(machine / "python3", python_of("3.9.2"))
    (machine / "python3.12").symlink_to(sys.executable)
    run = need(machine, "python3")
    assert (run.returncode, run.stdout) == (0, "python3.12\n"), run.stderr


def test_an_emacs_that_does_not_run_is_named(machine: Path) -> None:
    run = subprocess.run(
        [str(SUPPORT / "need.sh")],
        env={"PATH": str(machine), "EMACS": "/no such/emacs"},
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "/no such/emacs does not run" in run.stderr


def test_a_directory_that_cannot_be_written_is_named(machine: Path, tmp_path: Path) -> None:
    # A directory without lisp is not writable to anybody, root included.
    run = subprocess.run(
        [str(SUPPORT / "need.sh")],
        env={"PATH": str(machine)},
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "cannot be written" in run.stderr


def test_only_that_matches_nothing_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "tests/run.py", "--pytest-only", "--only", "no-such-test"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "No test has a name that matches ONLY=no-such-test" in run.stdout
    assert run.stdout.endswith("dualstack: 0 passed, 0 failed, 0 skipped\n")


def test_only_takes_a_regular_expression_of_emacs() -> None:
    run = subprocess.run(
        [
            sys.executable, "tests/run.py", "--pytest-only",
            "--only", r"an_emacs_that_does\|named_in_one",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.stdout.endswith("dualstack: 2 passed, 0 failed, 0 skipped\n"), run.stdout
