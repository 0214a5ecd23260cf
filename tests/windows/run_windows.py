# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all tests in a Windows Emacs and a Windows Python, and end with one line of counts.

    EMACS_W32="COMMAND" PYTHON_W32="COMMAND" [WINDOWS_NET="COMMAND"] \
        python tests/windows/run_windows.py [--only REGEXP] [--ert-only] [--pytest-only] [FILE...]

On Windows itself the two are `emacs` and the Python that runs this, if nothing else is said.  On
another system they run under Wine, and WINDOWS_NET runs a command on a host whose loopback refuses
as slowly as Windows' does; everything then happens on one such host.

Each file of tests, ERT's and pytest's, runs in a process of its own with a time limit.  They run in
a copy of the tree, as the compiled Lisp is that Emacs's own.  FILEs are names of such files without
a directory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from run import Counts, read_ert, read_report  # noqa: E402, it is in the directory above

TIME_LIMIT = 300  # seconds for one file
COPIED = ["lisp", "python", "tests", "README.org", "README.zh-CN.org", "NEWS.org", "LICENSE", ".ci"]
# The ports of WINDOWS_NET that answer nothing: at 127.0.0.1, at ::1, and at both.
SILENT = "41101 41100 41102"
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
    """Run COMMAND in DIRECTORY; return its output and status, None if it took over SECONDS."""
    output = bytearray()

    def read() -> None:
        assert child.stdout is not None
        while part := os.read(child.stdout.fileno(), 65536):
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
    status: int | None = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = child.wait(seconds)
    end(child)
    reader.join(5)  # What outlives the child may keep its output open.
    return output.decode(errors="replace").replace("\r\n", "\n"), status


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
    """The two programs, and the copy of the tree in the directory `tree` that they work in."""

    emacs: list[str]
    python: list[str]
    tree: Path

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

    def ert(self, file: str, only: str | None) -> Counts:
        """Run the tests of FILE, below the tree, whose names match ONLY."""
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
        return read_ert(Path(file).name, output, -1 if status is None else status)

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

    def pytest(self, file: str, only: str | None) -> Counts:
        """Run the tests of FILE, below the tree, whose names match ONLY."""
        report = self.tree / "report.xml"
        command = [
            *self.python, "-m", "pytest", "-c", "python/pyproject.toml", "--rootdir", ".",
            "--no-header", "-p", "no:cacheprovider", "--junit-xml=report.xml", file,
        ]  # fmt: skip
        if only:
            command += ["--only", only]
        output, status = run(command, self.tree)
        counts = read_report(report) if report.exists() else Counts()
        report.unlink(missing_ok=True)
        no_tests = 5
        if status not in {0, no_tests}:
            counts.failed = max(1, counts.failed)
            print(output)
        if status is None:
            print(f"{file}: ended after {TIME_LIMIT} s")
        return counts


def commands() -> tuple[list[str], list[str]]:
    """Return the commands that run the two programs; exit if they are not known."""
    emacs, python = os.environ.get("EMACS_W32"), os.environ.get("PYTHON_W32")
    if sys.platform == "win32":
        return [emacs or os.environ.get("EMACS") or "emacs"], [python or sys.executable]
    if not (emacs and python):
        sys.exit(
            'Which ones?  make test-windows EMACS_W32="COMMAND" PYTHON_W32="COMMAND"'
            ' [WINDOWS_NET="COMMAND"]'
        )
    return shlex.split(emacs), shlex.split(python)


def enter_host() -> None:
    """Run this command on the host that WINDOWS_NET makes, if it is not there yet."""
    host = os.environ.pop("WINDOWS_NET", None)
    if host:
        os.environ["DUALSTACK_HOSTS"] = ";".join(HOSTS)
        os.environ["DUALSTACK_SILENT_PORTS"] = SILENT
        words = shlex.split(host)
        os.execvp(words[0], [*words, sys.executable, *sys.argv])


def add_hosts() -> None:
    """Add the names of HOSTS to the hosts file of the host that WINDOWS_NET has made."""
    file = Path("/etc/hosts")
    # Only there: that of the machine is not touched.
    if os.environ.get("DUALSTACK_HOSTS") and file.read_text().splitlines() == LOCALHOST:
        file.write_text("".join(f"{line}\n" for line in HOSTS))


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description="Run all tests on Windows.")
    parser.add_argument("--only", help="run only tests whose names match this regular expression")
    parser.add_argument("--ert-only", action="store_true", help="leave pytest out")
    parser.add_argument("--pytest-only", action="store_true", help="leave ERT out")
    parser.add_argument("--bench", action="store_true", help="measure instead, in that Emacs")
    parser.add_argument("files", nargs="*", metavar="FILE", help="run only this file of tests")
    options = parser.parse_args()
    emacs, python = commands()
    enter_host()
    add_hosts()
    start = time.monotonic()
    lisp, py = Counts(), Counts()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        windows = Windows(emacs, python, Path(directory).resolve())
        windows.prepare()
        if options.bench:
            sys.exit(windows.bench())
        for total, one, patterns in [
            (
                lisp,
                windows.ert,
                () if options.pytest_only else ("lisp/*-test.el", "windows/*-test.el"),
            ),
            (py, windows.pytest, () if options.ert_only else ("python/test_*.py",)),
        ]:
            for pattern in patterns:
                for path in sorted((windows.tree / "tests").glob(pattern)):
                    if options.files and path.name not in options.files:
                        continue
                    began = time.monotonic()
                    counts = one(path.relative_to(windows.tree).as_posix(), options.only)
                    took = time.monotonic() - began
                    print(f"  {path.stem:<32} {counts}, {took:.0f} s", flush=True)
                    total.add(counts)
    both = Counts()
    both.add(lisp)
    both.add(py)
    for name in both.skipped:
        print(f"  skipped: {name}")
    print(f"ERT: {lisp}; pytest: {py}; {time.monotonic() - start:.0f} s")
    print(f"dualstack on Windows: {both}")
    sys.exit(1 if both.failed or not both.passed else 0)


if __name__ == "__main__":
    main()
