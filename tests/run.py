# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ERT and pytest together, and end with one line of counts.

    python tests/run.py [--only REGEXP]

Each file of ERT tests runs in an Emacs of its own, so that one that crashes or hangs hides no
other; both count as a failure.  The status is 0 if every test passed, and at least one ran.

As many files as there are processors, or as DUALSTACK_JOBS says, run side by side, and pytest and the
linters beside them; those that say ";; Runs alone", and why, run alone afterwards.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
ERT_TIMEOUT = 600 * int(os.environ.get("DUALSTACK_FAULT_TIMES", "1"))  # seconds for one file
PYTEST_TIMEOUT = 1800
# The sooner those begin that take longest, the less is left for one processor in the end.
LONG = ["sidecar-remote", "package", "epc-pipe", "mode-programs", "install", "epc-flow", "diagnose"]


@dataclass
class Counts:
    """How many tests passed and failed, which were skipped, and the output if one failed."""

    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    output: str = ""

    def add(self, other: Counts) -> None:
        """Add OTHER to these."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        """Return the counts as a phrase."""
        return f"{self.passed} passed, {self.failed} failed, {len(self.skipped)} skipped"


class Unit(NamedTuple):
    """What runs as a whole, by itself or beside others."""

    name: str
    run: Callable[[], Counts]
    alone: bool = False


def ert(file: Path, only: str | None) -> Counts:
    """Run the tests in FILE whose names match ONLY."""
    escaped = only.replace("\\", "\\\\").replace('"', '\\"') if only else None
    selector = f'"{escaped}"' if escaped else "t"
    command = [
        os.environ.get("EMACS", "emacs"), "-Q", "--batch", "-L", "lisp", "-L", "tests/lisp",
        "-l", str(file), "--eval", f"(dualstack-test-run-tests {selector})",
    ]  # fmt: skip
    try:
        run = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ERT_TIMEOUT,
            check=False,
            encoding="utf-8",
            errors="replace",
            # Python ignores SIGPIPE, and so does Emacs, but in batch mode: let it inherit that.
            restore_signals=False,
        )
        output, status = run.stdout, run.returncode
    except subprocess.TimeoutExpired as error:
        output, status = (error.stdout or b"").decode(errors="replace"), -1
    return read_ert(file.name, output, status)


def read_ert(name: str, output: str, status: int) -> Counts:
    """Return the counts in OUTPUT of the file NAME, with OUTPUT if anything went wrong.

    STATUS is Emacs's, negative where it was ended.
    """
    skipped = re.findall(r"^ +skipped +\d+/\d+ +(\S+)", output, re.MULTILINE | re.IGNORECASE)
    reasons = dict(re.findall(r"^reason (\S+): (.*)$", output, re.MULTILINE))
    counts = Counts(
        passed=len(re.findall(r"^ +passed +\d+/\d+ ", output, re.MULTILINE)),
        failed=len(re.findall(r"^ +FAILED +\d+/\d+ ", output, re.MULTILINE)),
        skipped=[f"{test}: {reasons[test]}" if test in reasons else test for test in skipped],
    )
    if status != 0 and not counts.failed:
        counts.failed = 1  # Emacs crashed or hung, or the file does not load.
    if counts.failed:
        counts.output = output
        if status < 0:
            counts.output += f"\n{name}: ended by signal {-status}, or after {ERT_TIMEOUT} s"
    return counts


def lint(*arguments: str) -> Counts:
    """Run the linters, by lint.sh with ARGUMENTS; each counts as a test."""
    run = subprocess.run(
        ["sh", "tests/lint.sh", *arguments],  # Windows runs no script by its first line.
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    lines = re.findall(r"^  ([a-z, -]+): ?(.*)$", run.stdout, re.MULTILINE)
    return Counts(
        passed=sum(rest == "clean" for _, rest in lines),
        failed=sum(rest == "" for _, rest in lines) or run.returncode,
        skipped=[f"{name}: {rest}" for name, rest in lines if rest.startswith("not checked")],
        output=run.stdout,
    )


def pytest(only: str | None) -> Counts:
    """Run the tests in tests/python whose names match ONLY."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-c", "python/pyproject.toml", "--rootdir", ".",
            "--no-header", f"--junit-xml={report}", "tests/python",
        ]  # fmt: skip
        if only:
            command += ["--only", only]
        try:
            run = subprocess.run(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PYTEST_TIMEOUT,
                check=False,
                encoding="utf-8",
                errors="replace",
            )
            output, status = run.stdout, run.returncode
        except subprocess.TimeoutExpired as error:
            output, status = (error.stdout or b"").decode(errors="replace"), -1
        counts = read_report(report) if report.exists() else Counts()
    no_tests = 5
    if status not in {0, no_tests}:
        counts.failed = max(1, counts.failed)
        counts.output = output
    return counts


def read_report(report: Path) -> Counts:
    """Return the counts in the file REPORT, which pytest wrote."""
    counts = Counts()
    for case in ET.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failed += 1
        elif skip is not None:
            counts.skipped.append(f"{case.get('name')}: {skip.get('message')}")
        else:
            counts.passed += 1
    return counts


def units(options: argparse.Namespace) -> Iterator[Unit]:
    """Generate what OPTIONS name, what takes longest first."""
    only = options.only
    if not options.ert_only:
        yield Unit("pytest", lambda: pytest(only))
    if options.pytest_only:
        return
    files = {
        file.stem.removeprefix("dualstack-").removesuffix("-test"): file
        for file in sorted((ROOT / "tests" / "lisp").glob("*-test.el"))
    }
    for name in dict.fromkeys([*(name for name in LONG if name in files), *files]):
        alone = re.search(r"^;; Runs alone", files[name].read_text(encoding="utf-8"), re.MULTILINE)
        yield Unit(files[name].stem, functools.partial(ert, files[name], only), bool(alone))
    if not only:
        yield Unit("linters", lambda: lint(*(["--lisp"] if options.ert_only else [])))


def run_units(chosen: list[Unit], processors: int) -> Iterator[tuple[Unit, Counts]]:
    """Run the units CHOSEN, on PROCESSORS, and generate each with its counts when it ends."""
    with ThreadPoolExecutor(processors) as pool:
        futures = {pool.submit(unit.run): unit for unit in chosen if not unit.alone}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    for unit in chosen:
        if unit.alone:
            yield unit, unit.run()


def processors() -> int:
    """Return how many units run side by side: no more than 4, for they share the machine."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = os.environ.get("DUALSTACK_JOBS") or str(min(4, available or 1))
    if not text.isdecimal() or int(text) < 1:
        sys.exit(f"DUALSTACK_JOBS is {text!r}: set it to a number of processors, such as 2")
    return int(text)


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description="Run ERT and pytest together.")
    parser.add_argument("--only", help="run only tests whose names match this regular expression")
    parser.add_argument("--ert-only", action="store_true", help="leave all that is Python out")
    parser.add_argument("--pytest-only", action="store_true", help="leave all but pytest out")
    options = parser.parse_args()
    try:  # As conftest.py takes it.
        re.compile(re.sub(r"\\([|(){}])", r"\1", options.only or ""))
    except re.error as error:
        sys.exit(f"ONLY={options.only} is no regular expression: {error}")
    # Whatever the locale, what a test printed can be shown.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    start = time.monotonic()
    lisp, python = Counts(), Counts()
    for unit, counts in run_units(list(units(options)), processors()):
        if counts.output:
            print(counts.output.rstrip("\n"))
        print(f"  {unit.name:<32} {counts}", flush=True)
        (python if unit.name == "pytest" else lisp).add(counts)
    total = Counts()
    total.add(lisp)
    total.add(python)
    for name in total.skipped:
        print(f"  skipped: {name}")
    print(f"ERT: {lisp}; pytest: {python}; {time.monotonic() - start:.0f} s")
    if options.only and not (total.passed or total.failed or total.skipped):
        print(f"No test has a name that matches ONLY={options.only}; `make test' runs all")
    print(f"dualstack: {total}")
    sys.exit(1 if total.failed or not total.passed else 0)


if __name__ == "__main__":
    main()
