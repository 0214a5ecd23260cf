# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make` says where something is missing, and which Python it finds.

The installer itself is tried on new machines, by tests/fresh.sh.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, SUPPORT

TOOLS = ["sh", "dirname", "id", "sed", "grep", "dd", "tail", "mktemp", "rm", "cat", "env", "tr"]
PYTHON = Path(sys.executable).as_posix()
# What Python needs on Windows, and what tells busybox, if that is the shell, to run our `id'.
KEPT = ["SYSTEMROOT", "BB_OVERRIDE_APPLETS"]
PASTE = "sudo apt-get update && sudo apt-get install -y --no-install-recommends"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" and not shutil.which("sh"), reason="needs a shell, such as Git's"
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return the only directory of the path of a machine with apt-get, and an ordinary user."""
    directory = tmp_path / "my 机" / "bin"
    directory.mkdir(parents=True)
    for tool in TOOLS:
        link(directory, tool)
    program(directory / "apt-get", "exit 1")
    program(directory / "id", "echo 1000")
    return directory


def program(file: Path, body: str) -> None:
    """Make FILE a shell script."""
    file.unlink(missing_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8", newline="\n")
    file.chmod(0o755)


def link(directory: Path, name: str, target: str | None = None) -> None:
    """Let NAME in DIRECTORY run TARGET, or that program of this machine.

    By a script: not everybody may make links on Windows.
    """
    if found := target or shutil.which(name):
        program(directory / name, f'exec "{Path(found).as_posix()}" "$@"')


def shell(
    script: Path | str, *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run SCRIPT in CWD with ARGUMENTS, and nothing but ENVIRONMENT and what Windows needs."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return subprocess.run(
        [shutil.which("sh") or "sh", str(script), *arguments],
        env={**kept, **environment}, cwd=cwd, stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip


def python_of(version: str) -> str:
    """Return the body of a program that is Python VERSION, as far as it is asked."""
    return f'case "$*" in --version) echo Python {version} ;; *version_info*) exit 1 ;; esac'


def need(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run need.sh with the MACHINE's programs."""
    return shell(SUPPORT / "need.sh", *arguments, PATH=str(machine))


def emacs(machine: Path) -> None:
    """Put a real Emacs on the MACHINE."""
    found = shutil.which(os.environ.get("EMACS", "emacs"))
    if not found:
        pytest.skip("needs emacs (Debian: emacs-nox)")
    link(machine, "emacs", found)


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
    # The script names its own directory: a shell on Windows may read scripts in another encoding.
    script = f'test "$1" = update || printf \'%s\\n\' "#!/bin/sh" "{body}" >"${{0%/*}}/python3"'
    program(machine / "apt-get", f'{script}\nchmod 755 "${{0%/*}}/python3" 2>/dev/null || true')
    link(machine, "chmod")
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
    link(machine, "python3.12", sys.executable)
    run = need(machine, "python3")
    assert (run.returncode, run.stdout) == (0, "python3.12\n"), run.stderr


def test_what_windows_launcher_names_is_found_and_has_no_return(machine: Path) -> None:
    emacs(machine)
    program(machine / "python3", "exit 1")
    # A program of Windows ends its lines by return and newline.
    text = 'import sys; sys.stdout.reconfigure(newline="\\r\\n"); exec(sys.argv[1])'
    program(machine / "py", f'exec "{PYTHON}" -c \'{text}\' "$3"')
    run = need(machine, "python3")
    assert (run.returncode, Path(run.stdout.strip())) == (0, Path(PYTHON)), run.stderr


def test_a_python_too_old_is_named_without_a_return(machine: Path) -> None:
    emacs(machine)
    answer = 'case "$*" in --version) printf "Python 3.9.2\\r\\n" ;; *version_info*) exit 1 ;; esac'
    program(machine / "python3", answer)
    run = need(machine, "python3")
    assert "Python 3.9.2, and dualstack needs" in run.stderr


def test_an_emacs_that_does_not_run_is_named(machine: Path) -> None:
    run = shell(SUPPORT / "need.sh", PATH=str(machine), EMACS="/no such/emacs")
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "/no such/emacs does not run" in run.stderr


def test_a_directory_that_cannot_be_written_is_named(machine: Path, tmp_path: Path) -> None:
    # A directory without lisp is not writable to anybody, root included.
    run = shell(SUPPORT / "need.sh", cwd=tmp_path, PATH=str(machine))
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "cannot be written" in run.stderr


def windows_environment(directory: Path, log: Path) -> Path:
    """Make DIRECTORY an environment as Windows has them.

    Where it is not a real one, what its Python is told goes to LOG.
    """
    python = directory / "Scripts" / "python.exe"
    if sys.platform == "win32":
        command = [sys.executable, "-m", "venv", "--without-pip", str(directory)]
        subprocess.run(command, check=True, timeout=60)
        source = directory / "Lib" / "site-packages" / "source.pth"
        source.write_text(f"{ROOT / 'python' / 'src'}\n")
        return python
    python.parent.mkdir(parents=True)
    program(python, f'echo "$*" >>"{log.as_posix()}"\nexec "{PYTHON}" "$@"')
    return python


def test_an_environment_of_windows_is_used(tmp_path: Path) -> None:
    emacs = shutil.which(os.environ.get("EMACS", "emacs"))
    if not (emacs and shutil.which("make")):
        pytest.skip("needs emacs and make")
    # That make is a program of the code page, which need not have such letters.
    clone = tmp_path / ("a clone" if sys.platform == "win32" else "a 克隆")
    for name in ("lisp", "tests", "python"):
        ignore = shutil.ignore_patterns("*.elc", ".compiled-*", "__pycache__")
        shutil.copytree(ROOT / name, clone / name, ignore=ignore)
    shutil.copy(ROOT / "Makefile", clone)
    log = tmp_path / "log"
    python = windows_environment(clone / ".venv", log)
    (clone / ".venv/.installed").touch()
    environment = {name: value for name, value in os.environ.items() if name != "DUALSTACK_PYTHON"}
    make = subprocess.run(
        ["make", "rooms"],
        env=environment, cwd=clone, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "wire         -> the standard library alone" in make.stdout, make.stderr
    if sys.platform != "win32":
        assert log.read_text() == "-c import dualstack_epc\ntests/support/rooms.py\n"
    # The helper of ERT's tests asks for Windows' place by the system's type.
    script = f'. tests/support/python.sh; venv_python .venv; venv_python "{tmp_path.as_posix()}"'
    shell = subprocess.run(
        ["sh", "-c", script], cwd=clone, capture_output=True, text=True, check=True
    )
    assert (clone / shell.stdout.splitlines()[0]).samefile(python)
    assert shell.stdout.splitlines()[1] == f"{tmp_path.as_posix()}/bin/python"


def test_a_full_or_missing_place_for_files_is_named(machine: Path, tmp_path: Path) -> None:
    for place in (str(tmp_path / "none"), "/dev/null"):
        run = shell(SUPPORT / "need.sh", PATH=str(machine), TMPDIR=place)
        assert run.returncode == 1
        assert run.stderr.count("\n") == 1
        assert f"{place} cannot be written, or is full" in run.stderr


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make in the clone with ARGUMENTS, and ENVIRONMENT besides this one."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    inherited = {key: os.environ[key] for key in os.environ if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        env={**inherited, **environment},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_what_leads_programs_astray_stays_outside() -> None:
    names = (
        "BASH_ENV CDPATH EMACSLOADPATH ENV GIT_DIR GREP_OPTIONS PIP_PREFIX PIP_TARGET"
        " PYTHONHOME PYTHONPATH PYTHONWARNINGS"
    )
    astray = dict.fromkeys(names.split(), "/nonexistent")
    show = "import os; print(*map('='.join, os.environ.items()), sep=chr(10))"
    recipe = f'show: ; @"{Path(PYTHON).as_posix()}" -c "{show}"'
    run = make("--eval", recipe, "show", PIP_USER="1", **astray)
    assert run.returncode == 0, run.stderr
    shown = dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)
    assert "PATH" in shown
    assert not astray.keys() & shown.keys()
    assert shown["PIP_USER"] == "0"


def test_scripts_find_their_clone_whatever_cdpath_says(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("needs bash")
    run = subprocess.run(
        [bash, "tests/fresh.sh", "--nonsense"],
        env={**os.environ, "CDPATH": str(tmp_path)},
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("usage: tests/fresh.sh [--release")


def test_a_python_that_is_named_is_used_or_refused() -> None:
    run = make("setup", "PYTHON=/nonexistent/python")
    assert run.returncode == 2
    assert run.stderr.startswith("PYTHON=/nonexistent/python does not run; name a Python")
