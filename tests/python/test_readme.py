# SPDX-License-Identifier: GPL-3.0-or-later
"""The code blocks of README.org in languages other than Lisp, run; and the package that it shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.net.listener import open_listener

from conftest import HOSTS, ROOT, connect, started

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(
    r"(?:^#\+name: (?P<name>\S+)\n)?^#\+begin_src (?P<language>\S+)\n(?P<body>.*?)^#\+end_src",
    re.MULTILINE | re.DOTALL,
)


def blocks() -> dict[str, str]:
    """Return the named code blocks by their names."""
    text = (ROOT / "README.org").read_text()
    return {m["name"]: m["body"] for m in BLOCK.finditer(text) if m["name"]}


def free_port() -> int:
    """Return a port that is free on both families."""
    with open_listener() as listener:
        return listener.port


def test_every_block_is_named_or_lisp() -> None:
    for match in BLOCK.finditer((ROOT / "README.org").read_text()):
        assert match["name"] or match["language"] == "emacs-lisp"
    names = {"greeter.py", "greeter.el", "dual.py", "dual.js", "dual.go", "Dual.java", "server.py"}
    assert set(blocks()) == names


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("dual.py", [sys.executable]),
        ("dual.js", ["node"]),
        ("dual.go", ["go", "run"]),
        ("Dual.java", ["java"]),
    ],
)
def test_servers_listen_on_both_families(name: str, command: list[str], tmp_path: Path) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    file = tmp_path / name
    file.write_text(blocks()[name])
    with started(*command, str(file), str(free_port())) as child:
        for family in HOSTS:
            with connect(family, child.port) as client:
                assert client.recv(100) == b"hello\n"


def test_the_python_server(tmp_path: Path) -> None:
    file = tmp_path / "server.py"
    file.write_text(blocks()["server.py"])
    run = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=20, check=True
    )
    assert run.stdout == "6\n"


def test_the_package_of_your_own(tmp_path: Path) -> None:
    emacs = shutil.which("emacs")
    if not emacs:
        pytest.skip("needs emacs")
    for name in ("greeter.py", "greeter.el"):
        (tmp_path / name).write_text(blocks()[name])
    assert blocks()["greeter.el"].count("\n") < 40
    assert blocks()["greeter.py"].count("\n") < 20
    form = '(princ (format "VALUE %S" (greeter-greet "Ada" "Alan")))'
    run = subprocess.run(
        [
            emacs, "-Q", "--batch", "-L", str(ROOT / "lisp"),
            "--eval", f'(setq dualstack-python "{sys.executable}")',
            "-l", str(tmp_path / "greeter.el"), "--eval", form,
        ],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert 'VALUE ("Hello, Ada!" "Hello, Alan!")' in run.stdout, run.stderr


def test_the_distribution_builds_and_runs_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "python", source, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    assert list(tmp_path.glob("*.tar.gz"))
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (target / "dualstack_epc" / "py.typed").exists()
    # Isolated, so that the source is not what is found.
    script = f"import sys; sys.path.insert(0, {str(target)!r}); import dualstack_epc; assert dualstack_epc.__file__.startswith({str(target)!r}); from dualstack_epc.cli import main; main(['hello'])"
    with started(sys.executable, "-I", "-c", script) as child:
        with connect("ipv6", child.port) as client:
            client.sendall(b"x")
            assert client.recv(10) == b"hello"
