# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all tests in a Windows Emacs and a Windows Python, and end with one line of counts.

    [EMACS_W32="COMMAND" PYTHON_W32="COMMAND" SHELL_W32=DIRECTORY WINDOWS_NET="COMMAND"] \
        [WINDOWS_TOOLS=DIRECTORY] python tests/windows/run_windows.py \
        [--only REGEXP] [--ert-only] [--pytest-only] [--repeat N] [FILE...]

On Windows itself the two are `emacs` and the Python that runs this, if nothing else is said.  On
another system they run under Wine, and WINDOWS_NET runs a command on a host whose loopback refuses
as slowly as Windows' does; everything then happens on one such host.

What is not said is built, once, by the programs in WINDOWS_TOOLS, into .cache/windows:
`windows-emacs build DIRECTORY` and `windows-python build DIRECTORY VERSION REQUIREMENT...`, which
`run DIRECTORY ARGUMENTS` then runs, and `windows-net COMMAND`.

SHELL_W32 is where a sh.exe for Windows is, and if there is one a make.exe.  If it is not said, those
of the package in shell.txt are fetched, once; on Windows they are those of the path, or the shell is
Git's, whose installer puts none there.  Without a shell the tests of our shell scripts are skipped.

Under Wine one such run at a time can use what is in .cache/windows, and another is refused: that
host has its own numbers of processes, and one wineserver would take those of two for the same.

Each file of tests, ERT's and pytest's, runs in a process of its own with a time limit.  They run in
a copy of the tree, as the compiled Lisp is that Emacs's own.  FILEs are names of such files without
a directory.  With --repeat they run N times in that copy, for what goes wrong now and then.

A test that fails is run again, alone, and it is said if it passes then; it counts as failed all the
same.  That Emacs loses one event of a connection in about a hundred, and takes one connect in some
hundreds for failed, whatever package asks for it (REPORT-TO-EMACS.txt).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from host import Service  # noqa: E402, it is beside this
from programs import commands, only_run, windows_name  # noqa: E402, so is this
from run import Counts, read_ert, read_report  # noqa: E402, it is in the directory above

TIME_LIMIT = 600  # seconds for one file of ERT
TEST_LIMIT = 240  # seconds for one test of pytest: Wine needs four times as long
PYTEST_LIMIT = 1800  # seconds for one file of pytest, whose tests have their own
STARTS = 6  # of a command that Wine's server leaves
CRASHED = -1000  # the status of such a command
REFUSED = re.compile(r"wine client error:.*\s*")  # all that one says which it refuses
COPIED = [
    "Makefile",
    "lisp",
    "python",
    "tests",
    "README.org",
    "README.zh-CN.org",
    "NEWS.org",
    "LICENSE",
    ".ci",
    ".cache/packages",
]
# The ports of WINDOWS_NET that answer nothing: at 127.0.0.1, at ::1, and at both.
SILENT = "41101 41100 41102"
# Sizes of file systems that get full, and a setting: for the tests that need a host like that.
DISKS = ["8k", "200k"]
NO_IPV6 = "ipv6/conf/all/disable_ipv6 1"
# What its hosts file has, and what is added for the tests of names that are looked up.
LOCALHOST = ["::1 localhost", "127.0.0.1 localhost"]
HOSTS = [
    *LOCALHOST,
    *(f"{address} {name}.test" for name in ("both", "box") for address in ("127.0.0.1", "::1")),
    *(f"2001:db8::{n} multi.test" for n in (1, 2)),
    *(f"192.0.2.{n} multi.test" for n in (1, 2, 3)),
    "192.0.2.9 four.test",
]


def run(command: list[str], directory: Path, seconds: float = TIME_LIMIT) -> tuple[str, int | None]:
    """Run COMMAND in DIRECTORY; return its output and status, None if it took over SECONDS.

    Wine's server crashes now and then where many sockets come and go (8.0: an assertion in
    sock_poll_event, on one that it has freed), and its programs wait for it for ever.  One that
    just ends may refuse a program at its start.  COMMAND is run again then, and that is told.
    """
    for _ in range(STARTS):
        output, status = run_once(command, directory, seconds)
        if status == CRASHED:
            print(f"  Wine's server has crashed, in {shlex.join(command)[-80:]}", flush=True)
            end_wine()
        elif status != 0 and REFUSED.fullmatch(output):
            print(f"  Wine's server has refused {shlex.join(command)[-80:]}", flush=True)
        else:
            break
    return output, status


def run_once(command: list[str], directory: Path, seconds: float) -> tuple[str, int | None]:
    """Run COMMAND as `run` does, once; the status may be CRASHED."""
    output = bytearray()

    def read() -> None:
        assert child.stdout is not None
        with child.stdout as pipe:
            while part := os.read(pipe.fileno(), 65536):
                output.extend(part)

    # A session of its own, so that what a hanging test has started can be ended with it.
    child = subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    status = wait(child, seconds)
    end(child)
    reader.join(5)  # What outlives the child may keep its output open.
    return output.decode(errors="replace").replace("\r\n", "\n"), status


def wait(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for CHILD; return its status, None after SECONDS, or CRASHED."""
    deadline = time.monotonic() + seconds
    headless = False
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(1)
        # A look may fall into an end in order, two cannot.
        before, headless = headless, is_headless(child.pid)
        if before and headless:
            return CRASHED
    return None


def is_headless(pid: int) -> bool:
    """Return whether the main thread of the process PID has ended, and others have not.

    That is what a program of Wine's becomes that waits in more threads than one.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def end_wine() -> None:
    """Kill the programs that a crash of Wine's server has left on a host of our own."""
    if on_own_host():
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if re.match("wine(64)?(-preloader)?$", (process / "exe").readlink().name):
                    os.kill(int(process.name), signal.SIGKILL)


def end(child: subprocess.Popen[bytes]) -> None:
    """End CHILD and what it has started."""
    if sys.platform == "win32":
        if child.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(child.pid)], check=False)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@dataclass
class Windows:
    """The two programs, and the copy of the tree in the directory `tree` that they work in.

    `chosen` are options that choose tests of pytest.
    """

    emacs: list[str]
    python: list[str]
    tree: Path
    chosen: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Copy the tree and set it up."""
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("*.elc", "__pycache__", ".compiled-*", "*.egg-info")
                shutil.copytree(source, self.tree / name, ignore=ignore)
            elif source.exists():
                shutil.copy2(source, self.tree / name)
        self.install()
        self.compile()
        if os.environ.get("DUALSTACK_HOST"):
            self.make_ssh()

    def install(self) -> None:
        """Let that Python have our package, with its command, and say so in the environment."""
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "wheel",
             "python"],
            cwd=self.tree, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (wheel,) = (self.tree / "wheel").glob("*.whl")
        shutil.rmtree(self.tree / "python/build", ignore_errors=True)
        # File names as that Python says them, which under Wine is not as this one does.
        script = (
            "import os, subprocess, sys; pip = [sys.executable, '-m', 'pip', '-q', 'install'];"
            " subprocess.run([*pip, '--no-index', '--no-deps', '--target', 'site', sys.argv[1]]);"
            " print(sys.executable); print(*map(os.path.abspath, ['python/src', 'site']), sep=';');"
            " print(os.path.abspath('site/bin')); print(os.path.abspath('bytecode'))"
        )
        output, _ = run([*self.python, "-c", script, f"wheel/{wheel.name}"], self.tree)
        if not (self.tree / "site/bin").exists():
            sys.exit(f"PYTHON_W32 does not run, or installs nothing: {output}")
        # Without bytecode a start takes seconds under Wine.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        names = ("DUALSTACK_PYTHON", "PYTHONPATH", "DUALSTACK_SCRIPTS", "PYTHONPYCACHEPREFIX")
        os.environ.update(zip(names, output.splitlines()[-4:], strict=True))

    def make_ssh(self) -> None:
        """Make an ssh.exe that reaches this machine, and have it on the path."""
        output, status = run([*self.python, "tests/windows/host.py", "make", "ssh"], self.tree)
        if status != 0:
            sys.exit(f"There is no ssh to be made: {output}")
        path = [os.environ.get("WINEPATH"), output.strip()]
        os.environ["WINEPATH"] = ";".join(filter(None, path))

    def compile(self) -> None:
        """Compile the Lisp by that Emacs, and say in the environment where that is."""
        form = (
            "(progn (setq byte-compile-error-on-warn t)"
            " (mapc (lambda (file) (unless (byte-compile-file file) (kill-emacs 1)))"
            ' (directory-files "lisp" t "\\\\.el\\\\\'"))'
            ' (princ (format "EMACS %s" (expand-file-name invocation-name invocation-directory))))'
        )
        output, status = run(
            [*self.emacs, "-Q", "--batch", "-L", "lisp", "--eval", form], self.tree
        )
        if status != 0:
            sys.exit(f"The Lisp does not compile there, or EMACS_W32 does not run:\n{output}")
        os.environ["EMACS"] = output.partition("EMACS ")[2].strip()

    def ert(self, file: str, only: str | None) -> tuple[Counts, list[str]]:
        """Run the tests of FILE, below the tree, whose names match ONLY.

        Return the counts and the names of those that failed.
        """
        quoted = (only or "").replace("\\", "\\\\").replace('"', '\\"')
        selector = f'"{quoted}"' if only else "t"
        form = f"(dualstack-test-run-tests {selector})"
        paths = ["-L", "lisp", "-L", "tests/lisp", "-L", "tests/windows"]
        output, status = run(
            [
                *self.emacs,
                "-Q",
                "--batch",
                *paths,
                "-l",
                "dualstack-test-helper",
                "-l",
                file,
                "--eval",
                form,
            ],
            self.tree,
        )
        failed = re.findall(r"^ +(?:FAILED|QUIT) +\d+/\d+ +(\S+)", output, re.MULTILINE)
        counts = read_ert(Path(file).name, output, -1 if status is None else status)
        if counts.output:
            print(counts.output.rstrip())
        for repeated in re.findall(r"^repeated .*", output, re.MULTILINE):
            print(f"  {repeated}")
        return counts, [] if status is None else failed

    def bench(self) -> int:
        """Print the table of bench-windows.el; return its status."""
        paths = ["-L", "lisp", "-L", "tests/lisp", "-L", "tests/windows"]
        output, status = run(
            [
                *self.emacs, "-Q", "--batch", *paths, "-l", "bench-windows",
                "-f", "dualstack-bench-windows",
            ],
            self.tree,
        )  # fmt: skip
        print(output)
        return 1 if status is None else status

    def pytest(self, file: str, only: str | None) -> tuple[Counts, list[str]]:
        """Run the tests of FILE, below the tree, whose names match ONLY, as `ert` does."""
        report = self.tree / "report.xml"
        command = [
            *self.python, "-m", "pytest", "-c", "python/pyproject.toml", "--rootdir", ".",
            "--no-header", "-p", "no:cacheprovider", "--junit-xml=report.xml", "-v",
            "-o", "addopts=--strict-markers", f"--timeout={TEST_LIMIT}", file,
            *self.chosen,
        ]  # fmt: skip
        if only:
            command += ["--only", only]
        output, status = run(command, self.tree, PYTEST_LIMIT)
        counts = read_report(report) if report.exists() else Counts()
        report.unlink(missing_ok=True)
        no_tests = 5
        if status not in {0, no_tests}:
            counts.failed = max(1, counts.failed)
            print(output)
        if status is None:
            print(f"{file}: ended after {PYTEST_LIMIT} s")
        failed = re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE)
        return counts, [] if status is None else sorted(set(failed))


def run_twice(
    run_file: Callable[[str, str | None], tuple[Counts, list[str]]], file: str, only: str | None
) -> Counts:
    """Run the tests of FILE that match ONLY by RUN_FILE; return the counts.

    Run those that failed again, and say which pass then: what fails stays counted as failed.
    """
    counts, failed = run_file(file, only)
    if failed:
        again = "\\|".join(
            f"\\`{name}\\'" if run_file.__name__ == "ert" else name for name in failed
        )
        _, still = run_file(file, again)
        for name in sorted(set(failed) - set(still)):
            print(f"  {name} failed, and passed when it was run again", flush=True)
    return counts


def run_files(
    windows: Windows,
    run_file: Callable[[str, str | None], tuple[Counts, list[str]]],
    patterns: tuple[str, ...],
    options: argparse.Namespace,
    total: Counts,
) -> None:
    """Run by RUN_FILE the files of tests that match PATTERNS and OPTIONS; add to TOTAL."""
    for pattern in patterns:
        paths = sorted((windows.tree / "tests").glob(pattern))
        chosen = [path for path in paths if not options.files or path.name in options.files]
        for path in chosen * options.repeat:
            began = time.monotonic()
            counts = run_twice(run_file, path.relative_to(windows.tree).as_posix(), options.only)
            took = time.monotonic() - began
            print(f"  {path.stem:<32} {counts}, {took:.0f} s", flush=True)
            total.add(counts)


def enter_host() -> None:
    """Run this command on the host that WINDOWS_NET makes, if it is not there yet."""
    host = os.environ.pop("WINDOWS_NET", None)
    if host:
        os.environ["DUALSTACK_HOSTS"] = ";".join(HOSTS)
        os.environ["DUALSTACK_SILENT_PORTS"] = SILENT
        words = shlex.split(host)
        os.execvp(words[0], [*words, sys.executable, *sys.argv])


def on_own_host() -> bool:
    """Return whether this is the host that WINDOWS_NET makes, which may be changed."""
    hosts = os.environ.get("DUALSTACK_HOSTS") and Path("/etc/hosts").read_text().splitlines()
    return hosts in (LOCALHOST, HOSTS)


def add_hosts() -> None:
    """Add the names of HOSTS to the hosts file."""
    Path("/etc/hosts").write_text("".join(f"{line}\n" for line in HOSTS))


@contextlib.contextmanager
def disks(directory: Path) -> Iterator[None]:
    """Have small file systems below DIRECTORY, and say in the environment where they are."""
    for size in DISKS:
        (directory / size).mkdir(parents=True)
        options = ["-t", "tmpfs", "-o", f"size={size}", "none"]
        subprocess.run(["mount", *options, directory / size], check=True)
    os.environ["DUALSTACK_SMALL_DISKS"] = windows_name(directory)
    try:
        yield
    finally:
        for size in DISKS:
            subprocess.run(["umount", directory / size], check=False)


def reserve_silent_ports() -> None:
    """Have the system give the ports of SILENT to no client, which would not hear its server."""
    Path("/proc/sys/net/ipv4/ip_local_reserved_ports").write_text(SILENT.replace(" ", ","))


def end_ipv6() -> None:
    """Turn IPv6 off, and say so in the environment."""
    setting, value = NO_IPV6.split(" ")
    Path("/proc/sys/net", setting).write_text(value)
    os.environ["DUALSTACK_OWN_HOST"] = NO_IPV6


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description="Run all tests on Windows.")
    parser.add_argument("--only", help="run only tests whose names match this regular expression")
    parser.add_argument("--ert-only", action="store_true", help="leave pytest out")
    parser.add_argument("--pytest-only", action="store_true", help="leave ERT out")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run them N times")
    parser.add_argument("--bench", action="store_true", help="measure instead, in that Emacs")
    parser.add_argument("files", nargs="*", metavar="FILE", help="run only this file of tests")
    options = parser.parse_args()
    emacs, python = commands()
    enter_host()
    start = time.monotonic()
    lisp, py = Counts(), Counts()
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_run())
        if on_own_host():
            reserve_silent_ports()
            service = stack.enter_context(contextlib.closing(Service()))
            os.environ["DUALSTACK_HOST"] = service.name
        directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        windows = Windows(emacs, python, Path(stack.enter_context(directory)).resolve())
        windows.prepare()
        if on_own_host():
            add_hosts()
            stack.enter_context(disks(windows.tree / "disks"))
            windows.chosen = ["-k", "not without_ipv6"]
        if options.bench:
            sys.exit(windows.bench())
        if not options.pytest_only:
            run_files(windows, windows.ert, ("lisp/*-test.el", "windows/*-test.el"), options, lisp)
        if not options.ert_only:
            run_files(windows, windows.pytest, ("python/test_*.py",), options, py)
            if on_own_host():
                end_ipv6()
                windows.chosen = ["-k", "without_ipv6"]
                files = ("python/test_hello.py", "python/test_listener.py", "python/test_server.py")
                run_files(windows, windows.pytest, files, options, py)
    sys.exit(report(lisp, py, time.monotonic() - start))


def report(lisp: Counts, py: Counts, seconds: float) -> int:
    """Print what LISP and PY, counted in SECONDS, come to; return the status to exit with."""
    both = Counts()
    both.add(lisp)
    both.add(py)
    for name in both.skipped:
        print(f"  skipped: {name}")
    print(f"ERT: {lisp}; pytest: {py}; {seconds:.0f} s")
    print(f"dualstack on Windows: {both}")
    return 1 if both.failed or not both.passed else 0


if __name__ == "__main__":
    main()
