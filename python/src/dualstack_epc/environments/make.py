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
from dataclasses import dataclass
from functools import cached_property
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
FORMER = "former-"  # what the name of one begins with while another is put in its place


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
        """Return the interpreter of an environment with what NEEDS says, making it if necessary.

        USER, the name of a sidecar, is noted as one that uses it.  With REBUILD it is made again.
        Raise `EnvironmentProblem`.
        """
        plan = _plan(needs)
        target = self.root / plan.name
        try:
            if rebuild or not whole(target):
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._make(target, plan, rebuild=rebuild)
            note_user(target, user)
        except OSError as error:
            _reraise(error, self.root)
        return interpreters.program_in(target)

    def _make(self, target: Path, plan: Plan, *, rebuild: bool) -> None:
        """Make TARGET by PLAN, unless another process has while we waited for its lock."""
        before = time.time()
        with locks.held(target.with_name(target.name + ".lock"), self._wait) as descriptor:
            if whole(target) and (not rebuild or record(target).get("made", 0) > before):
                return
            self._runner = Runner(self.say, [] if descriptor is None else [descriptor])
            if self.stopped:
                self._runner.stop()
            making = target.with_name("making-" + target.name[len("making-") :])
            _remove(making)
            try:
                self._build(making, plan, self._runner)
                self._finish(making, target, plan)
            finally:
                _remove(making)

    def _wait(self) -> None:
        """Be told that another process holds the lock."""
        if self.stopped:
            raise EnvironmentProblem("it was given up")
        self.step(1, STEPS, "waiting for another Emacs, which makes the same")

    def _build(self, making: Path, plan: Plan, runner: Runner) -> None:
        """Make an environment by PLAN in the directory MAKING."""
        count = len(plan.requirements)
        self.step(1, STEPS, f"making it with {'uv' if plan.uv else 'venv'}")
        runner.run("uv venv" if plan.uv else "venv", plan.make(making), self.root)
        self.step(2, STEPS, f"installing {count} package{'s' * (count != 1)} and what they need")
        if plan.requirements:
            program = str(interpreters.program_in(making))
            runner.run("uv pip" if plan.uv else "pip", plan.install(program), self.root)

    def _finish(self, making: Path, target: Path, plan: Plan) -> None:
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
            "requirements": plan.requirements, "pythons": plan.pythons,
            "python": ".".join(map(str, python.version)), "platform": python.platform,
            "tool": "uv" if plan.uv else "pip", "made": time.time(),
        }  # fmt: skip
        (making / RECORD).write_text(json.dumps(content), "utf-8")
        _replace(making, target)


@dataclass(frozen=True)
class Plan:
    """How an environment is made."""

    requirements: tuple[str, ...]  # in order, and once each
    pythons: tuple[str, ...]  # the specifiers that its Python must fit
    python: Interpreter | None  # what it is made with; None if uv is to fetch one
    uv: str | None  # the program, or None for venv and pip

    @property
    def name(self) -> str:
        """What the environment's directory is called: other needs, another name."""
        series = self.python.series if self.python else ""
        platform = self.python.platform if self.python else self.pythons
        key = json.dumps([self.requirements, series, platform])
        return f"python{series}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    @property
    def _program(self) -> str:
        """The Python to make it with, or what uv knows it by."""
        return self.python.program if self.python else ",".join(self.pythons)

    @cached_property
    def _has_pip(self) -> bool:
        """Whether the pip of the Python that is there can be used: one less is to be made."""
        return self.uv is None and interpreters.has_pip(self._program)

    def make(self, directory: Path) -> list[str]:
        """Return the command that makes an environment without packages in DIRECTORY."""
        if self.uv:
            return [self.uv, "venv", "--python", self._program, str(directory)]
        bare = ["--without-pip"] if not self.requirements or self._has_pip else []
        return [self._program, "-I", "-m", "venv", *bare, str(directory)]

    def install(self, program: str) -> list[str]:
        """Return the command that installs the packages for PROGRAM, the environment's Python."""
        if self.uv:
            return [self.uv, "pip", "install", "--python", program, "--", *self.requirements]
        pip = [program] if not self._has_pip else [self._program]
        other = ["--python", program] if self._has_pip else []
        return [
            *pip, "-I", "-m", "pip", *other, "install", "--disable-pip-version-check", "--",
            *self.requirements,
        ]  # fmt: skip


def _plan(needs: Needs) -> Plan:
    """Return how an environment for NEEDS is made; raise `EnvironmentProblem`."""
    requirements = _checked(needs.requirements)
    uv = shutil.which("uv")
    python = interpreters.choose(needs.pythons)
    if python is None and uv is None:
        raise EnvironmentProblem(_no_python(needs))
    return Plan(requirements, needs.pythons, python, uv)


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
    return content if isinstance(content, dict) and _sound(content) else {}


def _sound(content: dict[str, Any]) -> bool:
    """Return whether CONTENT is what `Maker` notes: a damaged file may still be JSON."""
    texts = [content.get("requirements", []), content.get("pythons", [])]
    return (
        all(isinstance(each, list) and all(isinstance(one, str) for one in each) for each in texts)
        and isinstance(content.get("python"), str)
        and isinstance(content.get("made"), (int, float))
    )


def note_user(environment: Path, user: str) -> None:
    """Note that USER uses ENVIRONMENT now, as a file of that name.  What fails costs nothing."""
    if user:
        from urllib.parse import quote  # noqa: PLC0415, most have no such name

        with contextlib.suppress(OSError):
            (environment / USERS).mkdir(exist_ok=True)
            (environment / USERS / quote(user, safe=" ()+,")).touch()


def _checked(requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Return REQUIREMENTS in order and once each; raise `EnvironmentProblem` if one is none."""
    for each in requirements:
        if not each.strip() or each.lstrip().startswith(("-", ".")) or not each.isprintable():
            raise EnvironmentProblem(f"{each!r} is no requirement: write it as name>=1.2")
    return tuple(sorted({" ".join(each.split()) for each in requirements}))


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
    away = target.with_name(FORMER + target.name[len(FORMER) :])
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
    raise EnvironmentProblem(
        f"{error.filename or root}: {error.strerror or error}; environments are kept in {root}:"
        " set `dualstack-sidecar-environments-directory' to another"
    ) from error
