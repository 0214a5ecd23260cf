# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command starts from its source, and whose code it then runs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dualstack_epc import connect
from dualstack_epc.wire.reader import read

from conftest import ROOT, Child

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = ROOT / "python" / "src" / "dualstack_epc"
# Names that start a sidecar, or that its modules, import.
NAMES = ("queue", "socket", "signal", "inspect", "dualstack_epc", "typing", "logging", "runpy")
ENVIRONMENT = {key: os.environ[key] for key in os.environ if not key.startswith("PYTHON")}
SLOW = {
    "argparse", "concurrent.futures", "epc", "hashlib", "hmac", "importlib.machinery", "inspect",
    "json", "logging", "pathlib", "queue", "re", "signal", "typing", "xmlrpc",
}  # fmt: skip
PRINT_PATH = "import sys\n\n\ndef path():\n    return sys.path\n"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Return a directory whose modules, called as Python's, leave a file when they are run."""
    directory = tmp_path / "trap"
    directory.mkdir()
    for name in NAMES:
        (directory / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    package = directory / "dualstack_epc"
    package.mkdir()
    for name in ("__init__", "__main__", "cli", "sidecar"):
        (package / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    return directory


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a copy of the package as it is shipped, without bytecode."""
    target = tmp_path / "src" / "dualstack_epc"
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@contextlib.contextmanager
def sidecar(
    source: Path,
    *arguments: str,
    cwd: Path | None = None,
    python: str = sys.executable,
    **environment: str,
) -> Iterator[tuple[Child, str]]:
    """Run the sidecar of SOURCE as Emacs does, and give it and its token."""
    child = Child(
        [python, "-X", "utf8", str(source / "__main__.py"), "sidecar", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=cwd, env={**ENVIRONMENT, **environment},
    )  # fmt: skip
    with child:
        try:
            assert child.stdout is not None
            child.first_line = child.stdout.readline()
            line = child.stdout.readline()
            if not line:
                assert child.stderr is not None
                pytest.fail(child.stderr.read())
            yield child, read(line)[3]
        finally:
            child.kill()


def tree(directory: Path) -> set[str]:
    return {str(each.relative_to(directory)) for each in directory.rglob("*")}


def test_it_runs_from_its_source_and_leaves_it_alone(source: Path, tmp_path: Path) -> None:
    before = tree(source.parent)
    module = tmp_path / "mine.py"
    module.write_text(
        "from dualstack_epc import connect, current_client\n\n\ndef double(x):\n    return 2 * x\n"
    )
    with sidecar(source, str(module)) as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("hello", [], 30) == "hello"
            assert client.call_sync("double", [2], 30) == 4
            client.methods_sync(5)
    assert tree(source.parent) == before


def imported(stderr: str) -> set[str]:
    """Return the modules that STDERR, of ``-X importtime``, names."""
    return set(re.findall(r"^import time:.*\| *(\S+)$", stderr, re.MULTILINE))


def test_the_first_reply_waits_for_nothing_that_only_some_need(source: Path) -> None:
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"],
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    with (
        ThreadPoolExecutor(1) as pool,
        sidecar(source, PYTHONPROFILEIMPORTTIME="1") as (child, token),
    ):
        assert child.stdin is not None
        assert child.stderr is not None
        errors = pool.submit(child.stderr.read)  # At once: a pipe of Windows holds 4 KB.
        with connect("127.0.0.1", child.port, token=token) as client:
            assert client.call_sync("hello", [], 30) == "hello"
        child.stdin.close()
        loaded = imported(errors.result()) - imported(bare.stderr)
    assert "dualstack_epc.rpc.core" in loaded
    assert loaded & SLOW == set()


def test_it_is_the_source_that_it_was_started_from(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "dualstack_epc"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the other one')\n")
    (source / "__init__.py").write_text("__version__ = 'own'\n")
    module = tmp_path / "version.py"
    module.write_text(
        "import dualstack_epc\n\n\ndef version():\n    return dualstack_epc.__version__\n"
    )
    with sidecar(source, str(module), PYTHONPATH=str(other.parent)) as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("version", [], 30) == "own"


def test_nothing_of_the_current_directory_is_run(source: Path, trap: Path, tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(f"import inspect, logging, queue, typing\n{PRINT_PATH}")
    with sidecar(source, str(module), "json", cwd=trap) as (child, token):
        with connect(port=child.port, token=token) as client:
            path = client.call_sync("path", [], 30)
            assert client.call_sync("dumps", [1], 30) == "1"
    assert str(trap) not in path
    assert all(os.path.isabs(each) for each in path)  # noqa: PTH117
    assert path[0] == str(source.parent)
    assert path[-1] == str(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("way", ["module", "directory"])
def test_nor_where_a_user_starts_it(way: str, trap: Path, tmp_path: Path) -> None:
    if way == "module" and sys.version_info < (3, 11):
        pytest.skip("what -m itself imports comes from the current directory before 3.11")
    command = ["-P", "-m", "dualstack_epc"] if way == "module" else [str(SOURCE)]
    run = subprocess.run(
        [sys.executable, *command, "serve", "no_such_module"],
        cwd=trap, capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip
    assert run.stderr.startswith("dualstack-epc: there is no module no_such_module")
    assert not (tmp_path / "sprung").exists()


def test_a_modules_folder_hides_nothing_of_pythons(
    source: Path, trap: Path, tmp_path: Path
) -> None:
    (trap / "beside.py").write_text("VALUE = 42\n")
    (trap / "mine.py").write_text(
        "import inspect, queue, socket\nfrom beside import VALUE\n\n\n"
        "def answer():\n    return VALUE, queue.__file__\n"
    )
    with sidecar(source, str(trap / "mine.py")) as (child, token):
        with connect(port=child.port, token=token) as client:
            value, place = client.call_sync("answer", [], 30)
            client.methods_sync(5)
    assert value == 42
    assert not place.startswith(str(trap))
    assert not (tmp_path / "sprung").exists()


def test_a_module_by_name_comes_from_the_path_that_is_named(
    source: Path, trap: Path, tmp_path: Path
) -> None:
    (trap / "by_name.py").write_text("import queue\n\n\ndef answer():\n    return 42\n")
    with sidecar(source, "--path", str(trap), "by_name") as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("answer", [], 30) == 42
    assert not (tmp_path / "sprung").exists()
    run = subprocess.run(
        [sys.executable, str(source), "sidecar", "by_name"],
        cwd=trap, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stderr.startswith("dualstack-epc: there is no module by_name: name its file, or")
    run = subprocess.run(
        [sys.executable, str(source), "sidecar", "--path", "/no/such", "by_name"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stderr == "dualstack-epc: there is no directory /no/such\n"


def test_a_file_may_be_called_as_a_module_of_pythons(source: Path, tmp_path: Path) -> None:
    for name in ("queue", "socket"):
        (tmp_path / f"{name}.py").write_text(f"def in_{name}():\n    return __name__\n")
    files = [str(tmp_path / name) for name in ("queue.py", "socket.py")]
    with sidecar(source, *files) as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("in_queue", [], 30) == "sidecar_queue"
            assert client.call_sync("in-socket", [], 30) == "sidecar_socket"


def test_what_the_user_has_set_is_left(source: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "from_path.py").write_text("def answer():\n    return 42\n")
    (own / "sitecustomize.py").write_text("import builtins\nbuiltins.customized = 'yes'\n")
    module = tmp_path / "mine.py"
    module.write_text(
        "import os, sys\n\n\ndef seen():\n"
        "    return [customized, os.environ['PYTHONPATH'], os.environ['PYTHONSTARTUP'],\n"
        "            sys.dont_write_bytecode, sys.flags.utf8_mode]\n"
    )
    with sidecar(
        source, "from_path", str(module), PYTHONPATH=str(own), PYTHONSTARTUP="/my/startup.py"
    ) as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("answer", [], 30) == 42
            seen = client.call_sync("seen", [], 30)
    assert seen == ["yes", str(own), "/my/startup.py", [], 1]
    assert (own / "__pycache__").exists()  # theirs is written as ever


def test_a_pth_file_of_the_user_is_read(source: Path, tmp_path: Path) -> None:
    python = sys._base_executable  # type: ignore[attr-defined]
    site = subprocess.run(
        [python, "-c", "import site; print(site.ENABLE_USER_SITE and site.USER_SITE)"],
        env={**ENVIRONMENT, "PYTHONUSERBASE": str(tmp_path)},
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    if not site.startswith(str(tmp_path)):
        pytest.skip("this Python has no directory for a user's packages")
    Path(site).mkdir(parents=True)
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "by_pth.py").write_text("def answer():\n    return 42\n")
    (Path(site) / "mine.pth").write_text(f"{tmp_path / 'named'}\n")
    with sidecar(source, "by_pth", python=python, PYTHONUSERBASE=str(tmp_path)) as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("answer", [], 30) == 42


@pytest.mark.parametrize("locale", ["C", "zh_CN.GBK"])
def test_text_is_utf_8_in_every_locale(source: Path, tmp_path: Path, locale: str) -> None:
    folder = tmp_path / "中文 文件夹"
    folder.mkdir()
    (folder / "text.txt").write_text("你好", "utf-8")
    (folder / "mine.py").write_text(
        f"def text():\n    return open({str(folder / 'text.txt')!r}).read()\n", "utf-8"
    )
    with sidecar(source, str(folder / "mine.py"), LC_ALL=locale) as (child, token):
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("text", [], 30) == "你好"


def test_an_old_python_gets_one_sentence(source: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c",
         ("import runpy, sys; sys.version_info = (3, 9, 1); sys.argv = ['x', 'sidecar']\n"
         f"runpy.run_path({str(source / '__main__.py')!r}, run_name='__main__')")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stderr == "dualstack-epc: this is Python 3.9; 3.10 or later is needed\n"
    assert run.returncode == 1
