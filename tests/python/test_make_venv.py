# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment that `make` puts the sidecar and the tools in."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import make_venv

from conftest import ROOT, SUPPORT

# Without an index, and without what the environment of the tests says instead.
ALONE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
SLOW = 8 if sys.platform == "win32" else 1  # Wine takes so many times as long.


def run(named: str, venv: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make_venv.py in CWD, where no package can be had."""
    return subprocess.run(
        [sys.executable, str(SUPPORT / "make_venv.py"), named, str(venv)],
        env={**os.environ, **ALONE}, cwd=cwd, stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", errors="replace", timeout=25 * SLOW, check=False,
    )  # fmt: skip


def packages(venv: Path) -> Path:
    """Return where VENV has its packages."""
    scheme = "nt" if sys.platform == "win32" else "posix_prefix"
    return Path(sysconfig.get_path("purelib", scheme, {"base": str(venv)}))


def bare(venv: Path, named: str) -> None:
    """Make VENV an environment by the name NAMED, whose pip only notes what it is told."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(venv)]
    subprocess.run(command, check=True, timeout=25 * SLOW)
    pip = packages(venv) / "pip"
    pip.mkdir()
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(
        "import pathlib, sys\n"
        "with pathlib.Path(sys.prefix, 'told').open('a') as told: print(*sys.argv[1:], file=told)\n"
    )
    (venv / ".installed").write_text(f"{named}\n")


def test_an_environment_of_that_name_is_kept_and_brought_up_to_date(tmp_path: Path) -> None:
    source = tmp_path / "a clone" / "python" / "src"
    source.mkdir(parents=True)
    venv = tmp_path / "a clone" / ".venv"
    bare(venv, "my python")
    note = packages(venv) / "__editable__.dualstack_epc-0.pth"
    note.write_text("/moved")
    done = run("my python", Path(".venv"), tmp_path / "a clone")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    told = (venv / "told").read_text().splitlines()
    assert [line.partition(" install ")[2] for line in told] == [
        "setuptools>=77 wheel",
        "--no-build-isolation -e python[dev]",
    ]
    assert (venv / ".installed").read_bytes() == b"my python\n"
    named = note.read_text().rstrip("\n")
    assert not Path(named).is_absolute()
    assert (note.parent / named).samefile(source)


def test_an_environment_of_another_name_is_made_anew(tmp_path: Path) -> None:
    venv = tmp_path / "made"
    bare(venv, "my python")
    done = run("another", venv)
    assert done.returncode == 1
    assert not (venv / "told").exists()
    assert not (venv / ".installed").exists()
    # There is a pip now, and nothing that it could install.
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[1].startswith("The Python packages that the tests need cannot be downloaded")
    assert "pip: ERROR: No matching distribution found for setuptools>=77" in lines[1]
    assert make_venv.run(make_venv.venv_python(venv), "-c", "import pip") == (True, [])


def test_an_environment_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("my python", tmp_path / "file" / "made")
    assert (done.returncode, done.stderr.count("\n")) == (1, 2), done.stderr
    assert f"{sys.executable} -m venv fails: " in done.stderr


def test_a_folder_that_setuptools_cannot_take_is_named(tmp_path: Path) -> None:
    for name in ("a{b}", "a $b"):
        clone = tmp_path / name
        clone.mkdir()
        done = run("my python", Path(".venv"), clone)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert f"{name} for variables; move the clone" in done.stderr
        assert not (clone / ".venv").exists()


def test_windows_python_is_found(tmp_path: Path) -> None:
    assert make_venv.venv_python(tmp_path) == tmp_path / "bin" / "python"
    program = tmp_path / "Scripts" / "python.exe"
    program.parent.mkdir()
    program.touch()
    assert make_venv.venv_python(tmp_path) == program
