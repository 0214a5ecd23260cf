# SPDX-License-Identifier: GPL-3.0-or-later
"""Making an environment, or finding the one that is there.

1. Its name is a hash of the requirements and of the Python's version and platform.
2. One that is whole and runs is used as it is.
3. Else, with a lock held, it is made beside it, by uv or by venv and pip, and renamed when it is
   whole: whatever happens before that, what was there is still there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from dualstack_epc.environments import interpreters, locks
from dualstack_epc.environments.errors import EnvironmentProblem
from dualstack_epc.environments.tools import Runner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import NoReturn

    from dualstack_epc.environments.interpreters import Interpreter
    from dualstack_epc.environments.metadata import Needs

RECORD = "dualstack-environment.json"  # written last: what has none is not whole
USERS = "dualstack-users"  # a directory with a file for each sidecar that uses the environment
STEPS = 3


class Maker:
    """Makes environments below the directory `root`.

    `say` is called with each line of output, `step` with a number, their count and a phrase.
    """

    def __init__(
        self, root: Path, say: Callable[[str], object], step: Callable[[int, int, str], object]
    ) -> None:
        """Make them below ROOT, and tell SAY and STEP of it."""
        self.root = root
        self.say = say
        self.step = step
        self.stopped = False
        self._runner: Runner | None = None

    def stop(self) -> None:
        """Have `ensure`, in another thread, end soon, with nothing half made left."""
        self.stopped = True
        if self._runner:
            self._runner.stop()

    def ensure(self, needs: Needs, user: str = "", *, rebuild: bool = False) -> Path:
        """Return the interpreter of an environment with what NEEDS says, making it if need be.

        USER, the name of a sidecar, is noted as one that uses it.  With REBUILD it is made anew.
        Raise `EnvironmentProblem`.
        """
        requirements = _checked(needs.requirements)
        uv = shutil.which("uv")
        python = interpreters.choose(needs.pythons)
        if python is None and uv is None:
            raise EnvironmentProblem(_no_python(needs))
        # uv fetches a Python where there is none.
        wanted = python.program if python else ",".join(needs.pythons)
        target = self.root / name(requirements, python, wanted)
        try:
            if rebuild or not whole(target):
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._make(target, requirements, wanted, uv, rebuild=rebuild)
            note_user(target, user)
        except OSError as error:
            _reraise(error, self.root)
        return interpreters.program_in(target)

    def _make(
        self, target: Path, requirements: list[str], wanted: str, uv: str | None, *, rebuild: bool
    ) -> None:
        """Make TARGET, unless another process has while we waited for its lock."""
        before = time.time()
        with locks.held(target.with_name(target.name + ".lock"), self._wait) as descriptor:
            if whole(target) and (not rebuild or record(target).get("made", 0) > before):
                return
            runner = self._runner = Runner(self.say, [] if descriptor is None else [descriptor])
            making = target.with_name("making-" + target.name[len("making-") :])
            _remove(making)
            try:
                self._build(making, requirements, wanted, uv, runner)
                self._finish(making, target, requirements, "uv" if uv else "pip")
            finally:
                _remove(making)

    def _wait(self) -> None:
        """Be told that another process holds the lock."""
        if self.stopped:
            raise EnvironmentProblem("it was given up")
        self.step(1, STEPS, "waiting for another Emacs, which makes the same")

    def _build(
        self, making: Path, requirements: list[str], wanted: str, uv: str | None, runner: Runner
    ) -> None:
        """Make an environment in the directory MAKING."""
        self.step(1, STEPS, f"making it with {'uv' if uv else 'venv'}")
        # The pip that is there installs into others, too, and one less is to be made.
        pip = not uv and bool(requirements) and interpreters.has_pip(wanted)
        if uv:
            runner.run("uv venv", [uv, "venv", "--python", wanted, str(making)], self.root)
        else:
            bare = ["--without-pip"] if pip or not requirements else []
            runner.run("venv", [wanted, "-I", "-m", "venv", *bare, str(making)], self.root)
        count = len(requirements)
        self.step(2, STEPS, f"installing {count} package{'s' * (count != 1)} and what they need")
        if requirements:
            program = str(interpreters.program_in(making))
            install = ["install", "--disable-pip-version-check", "--", *requirements]
            if uv:
                command = [uv, "pip", "install", "--python", program, "--", *requirements]
            elif pip:
                command = [wanted, "-I", "-m", "pip", "--python", program, *install]
            else:
                command = [program, "-I", "-m", "pip", *install]
            runner.run("uv pip" if uv else "pip", command, self.root)

    def _finish(self, making: Path, target: Path, requirements: list[str], tool: str) -> None:
        """Rename MAKING, which is whole, to TARGET."""
        self.step(3, STEPS, "trying it")
        python = interpreters.ask(str(interpreters.program_in(making)))
        if python is None:
            raise EnvironmentProblem("its Python does not run: look at the output above")
        _rename_in_scripts(making, target)
        users = target / USERS
        if users.is_dir():
            shutil.copytree(users, making / USERS)
        content = {
            "requirements": requirements, "python": ".".join(map(str, python.version)),
            "platform": python.platform, "tool": tool, "made": time.time(),
        }  # fmt: skip
        (making / RECORD).write_text(json.dumps(content), "utf-8")
        _replace(making, target)


def name(requirements: list[str], python: Interpreter | None, wanted: str) -> str:
    """Return the name of the environment with REQUIREMENTS for PYTHON, or one like WANTED."""
    key = [requirements, [python.series, python.platform] if python else wanted]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return f"python{python.series if python else ''}-{digest}"


def whole(environment: Path) -> bool:
    """Return whether ENVIRONMENT was finished, and its Python still is what it was."""
    content = record(environment)
    python = interpreters.ask(str(interpreters.program_in(environment))) if content else None
    return bool(
        python
        and python.platform == content.get("platform")
        and python.series == ".".join(str(content.get("python")).split(".")[:2])
    )


def record(environment: Path) -> dict[str, Any]:
    """Return what was noted of ENVIRONMENT when it was made, or nothing if it is not whole."""
    try:
        content = json.loads((environment / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def note_user(environment: Path, user: str) -> None:
    """Note that USER uses ENVIRONMENT now, as a file of that name.  What fails costs nothing."""
    if user:
        from urllib.parse import quote  # noqa: PLC0415, most have no such name

        with contextlib.suppress(OSError):
            (environment / USERS).mkdir(exist_ok=True)
            (environment / USERS / quote(user, safe=" ()+,")).touch()


def _checked(requirements: tuple[str, ...]) -> list[str]:
    """Return REQUIREMENTS in order and once each; raise `EnvironmentProblem` if one is none."""
    for each in requirements:
        if not each.strip() or each.lstrip().startswith(("-", ".")) or not each.isprintable():
            raise EnvironmentProblem(f"{each!r} is no requirement: write it as name>=1.2")
    return sorted({" ".join(each.split()) for each in requirements})


def _no_python(needs: Needs) -> str:
    """Return that there is no Python as in NEEDS, and what to do."""
    own = ".".join(map(str, interpreters.own().version))
    return (
        f"it needs Python {','.join(needs.pythons)}, and this is {own}:"
        " install such a Python, or uv, which fetches one"
    )


def _rename_in_scripts(making: Path, target: Path) -> None:
    """Have the scripts of the environment MAKING name it by TARGET, which is as long."""
    old, new = str(making).encode(), str(target).encode()
    for file in [*interpreters.program_in(making).parent.iterdir(), making / "pyvenv.cfg"]:
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            if old in content:
                file.write_bytes(content.replace(old, new))


def _replace(making: Path, target: Path) -> None:
    """Rename MAKING to TARGET; what is there is removed only when that has worked."""
    away = target.with_name("former-" + target.name[len("former-") :])
    _remove(away)
    if target.exists():
        target.rename(away)
    try:
        making.rename(target)
    except OSError:
        if away.exists():
            away.rename(target)
        raise
    _remove(away)


def _remove(directory: Path) -> None:
    """Remove DIRECTORY, or a file in its place, as far as that is possible."""
    if directory.is_file():
        directory.unlink()
    shutil.rmtree(directory, ignore_errors=True)


def _reraise(error: OSError, root: Path) -> NoReturn:
    """Raise the `EnvironmentProblem` that ERROR, met below ROOT, is."""
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
        raise EnvironmentProblem(
            f"the disk of {root} is full: make room, and start the sidecar again"
        ) from error
    raise EnvironmentProblem(f"{error.filename or root}: {error.strerror or error}") from error
