# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python an environment is made with, and whether one still runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dualstack_epc.environments.errors import EnvironmentProblem
from dualstack_epc.environments.versions import Version, fits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OLDEST = (3, 10)  # what our own source needs
NEWEST_KNOWN = 15
PATIENCE = 30.0  # seconds within which an interpreter says what it is
QUESTION = (
    "import sys, sysconfig; print(*sys.version_info[:3]); print(sysconfig.get_platform());"
    " print(sys.executable)"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python: its program, its version, and what it was built for."""

    program: str
    version: Version
    platform: str

    @property
    def series(self) -> str:
        """Major and minor version, which packages are installed for."""
        return f"{self.version[0]}.{self.version[1]}"


def own() -> Interpreter:
    """Return the Python that runs this."""
    return Interpreter(sys.executable, tuple(sys.version_info[:3]), sysconfig.get_platform())


def ask(program: str) -> Interpreter | None:
    """Return what PROGRAM is, or None if it is no Python that runs on this machine."""
    try:
        run = subprocess.run(
            # UTF-8, or Windows' Pythons print the name in the system's code page.
            [program, "-I", "-S", "-X", "utf8", "-c", QUESTION],
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="surrogateescape", check=False, timeout=PATIENCE, env=clean_environment(),
        )  # fmt: skip
        version, platform, file = run.stdout.splitlines()[:3]
        return Interpreter(file, tuple(int(each) for each in version.split()), platform)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def has_pip(program: str) -> bool:
    """Return whether PROGRAM, a Python, has a pip that installs into other environments."""
    question = "import pip; print(int(tuple(map(int, pip.__version__.split('.')[:2])) >= (22, 3)))"
    try:
        run = subprocess.run(
            [program, "-I", "-c", question], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=PATIENCE, env=clean_environment(),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return run.stdout.strip() == "1"


def choose(specifiers: Sequence[str]) -> Interpreter | None:
    """Return a Python for which all SPECIFIERS hold: this one, or one on the path, or None.

    Raise `EnvironmentProblem` if one of SPECIFIERS is none.
    """
    for candidate in _candidates():
        try:
            fitting = all(fits(candidate.version, each) for each in specifiers)
        except ValueError as error:
            raise EnvironmentProblem(f"requires-python: {error}") from error
        if fitting and candidate.version >= OLDEST:
            return candidate
    return None


def _candidates() -> Iterator[Interpreter]:
    """Yield this Python, and those on the path, the newest first."""
    yield own()
    for minor in range(NEWEST_KNOWN, OLDEST[1] - 1, -1):
        program = shutil.which(f"python3.{minor}")
        found = ask(program) if program else None
        if found:
            yield found


def program_in(environment: Path) -> Path:
    """Return the interpreter of ENVIRONMENT, which may not exist."""
    if os.name == "nt":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def clean_environment() -> dict[str, str]:
    """Return the environment variables for a child that makes or uses an environment.

    What would have another directory installed into, or looked in, is left out.
    """
    unwanted = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV",
                "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX",
                "__PYVENV_LAUNCHER__", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"}  # fmt: skip
    return {name: value for name, value in os.environ.items() if name not in unwanted}
