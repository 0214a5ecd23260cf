# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a virtual environment with the sidecar and the tools in it, by the Python that runs this.

    python tests/support/make_venv.py NAMED DIRECTORY

NAMED is what the user calls that Python.  The file .installed in DIRECTORY is written last, and says
NAMED: an environment of the same name is kept, and only brought up to date.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

if sys.platform != "win32":
    import locale


def venv_python(venv: Path) -> Path:
    """Return the Python of the environment VENV, as venv_python of python.sh does."""
    of_windows = venv / "Scripts/python.exe"
    return of_windows if of_windows.exists() else venv / "bin/python"


def environment() -> dict[str, str]:
    """Return an environment whose locale has all letters: pip notes there where the clone is."""
    changed = {}
    if sys.platform != "win32" and locale.nl_langinfo(locale.CODESET) != "UTF-8":
        changed["LC_ALL"] = "C.UTF-8"
    return {**os.environ, **changed}


def run(*command: str | Path) -> tuple[bool, list[str]]:
    """Run COMMAND; return whether it succeeded, and the lines that it printed."""
    child = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace", env=environment(), check=False,
    )  # fmt: skip
    return child.returncode == 0, child.stdout.splitlines()


def check_folder() -> None:
    """Exit where setuptools would not find the clone."""
    folder = str(Path.cwd())
    if re.search(r"[{}]|\$[a-zA-Z_]", folder):
        sys.exit(
            f"Python's setuptools takes $NAME and {{NAME}} in {folder} for variables;"
            " move the clone to a folder without them"
        )


def is_kept(venv: Path, named: str) -> bool:
    """Return whether VENV was made by the Python NAMED, and still runs."""
    mark = venv / ".installed"
    same = mark.exists() and mark.read_text(encoding="utf-8").rstrip("\n") == named
    python = venv_python(venv)
    return same and python.exists() and run(python, "-c", "import pip")[0]


def make(venv: Path) -> None:
    """Make VENV anew, without packages."""
    made, said = run(sys.executable, "-m", "venv", "--clear", venv)
    if not made:
        sys.exit(f"{sys.executable} -m venv fails: {said[-1] if said else ''}")


def install(venv: Path) -> None:
    """Install the sidecar and the tools in VENV.

    The build backend comes first, and is not fetched anew: a second time needs no network.
    """
    pip = (
        venv_python(venv),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "install",
    )
    for packages in (["setuptools>=77", "wheel"], ["--no-build-isolation", "-e", "python[dev]"]):
        installed, said = run(*pip, *packages)
        if not installed:
            errors = [line for line in said if line.lstrip().lower().startswith("error")]
            sys.exit(
                "The Python packages that the tests need cannot be downloaded (is there a network?);"
                f" connect and type make again.  pip: {errors[-1] if errors else ''}"
            )


def name_source(venv: Path) -> None:
    """Have VENV name our source relative to itself.

    Python 3.11 and 3.12 read that in the locale's encoding, whatever it is then: a relative name is
    ASCII wherever the clone lies.
    """
    for note in venv.rglob("__editable__.dualstack_epc-*.pth"):
        source = os.path.relpath("python/src", note.parent)
        note.write_text(f"{source}\n", encoding="utf-8")


def main() -> None:
    """Run as the module's docstring says."""
    named, venv = sys.argv[1], Path(sys.argv[2])
    check_folder()
    print(f"Setting up {venv} (once)...", file=sys.stderr)
    if not is_kept(venv, named):
        make(venv)
    install(venv)
    name_source(venv)
    (venv / ".installed").write_text(f"{named}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
