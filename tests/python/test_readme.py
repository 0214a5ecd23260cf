# SPDX-License-Identifier: GPL-3.0-or-later
"""The code blocks of README.org in languages other than Lisp, run; and the package that it shows."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dualstack_epc.net.listener import open_listener
from dualstack_epc.rpc.client import connect as connect_client
from dualstack_epc.rpc.errors import CallTimeoutError

from conftest import HOSTS, ROOT, connect, started
from epc_server import port, serving

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(
    r"(?:^#\+name: (?P<name>[^\n]+)\n)?^#\+begin_src (?P<language>\S+)\n(?P<body>.*?)^#\+end_src",
    re.MULTILINE | re.DOTALL,
)


def blocks(readme: str = "README.org") -> dict[str, str]:
    """Return the named code blocks of README by their names."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    return {m["name"]: m["body"] for m in BLOCK.finditer(text) if m["name"]}


def free_port() -> int:
    """Return a port that is free on both families."""
    with open_listener() as listener:
        return listener.port


@pytest.mark.parametrize("readme", ["README.org", "README.zh-CN.org"])
def test_every_block_is_named_or_lisp(readme: str) -> None:
    for match in BLOCK.finditer((ROOT / readme).read_text(encoding="utf-8")):
        assert match["name"] or match["language"] == "emacs-lisp"


def test_the_chinese_readme_is_short_and_has_the_same_code() -> None:
    text = (ROOT / "README.zh-CN.org").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    english = blocks()
    for name, body in blocks("README.zh-CN.org").items():
        assert body == english[name]


def test_the_names_of_blocks() -> None:
    assert set(blocks()) == {
        "greeter.py", "greeter.el", "dual.py", "dual.js", "dual.go", "Dual.java", "server.py",
        "metadata.py", "notes.py 1", "notes.py 2", "notes.py 3", "notes.el 1", "notes.el 2",
        "notes.el 3", "notes.el 4", "notes-test.el", "calc.py", "calc-epc.el", "sums.py", "sums.el",
        "lasting.py",
    }  # fmt: skip


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
    file.write_text(blocks()[name], encoding="utf-8")
    with started(*command, str(file), str(free_port())) as child:
        for family in HOSTS:
            with connect(family, child.port) as client:
                assert client.recv(100) == b"hello\n"


def test_the_python_server(tmp_path: Path) -> None:
    file = tmp_path / "server.py"
    file.write_text(blocks()["server.py"])
    run = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=40, check=True
    )
    assert run.stdout == "6\n"


def test_the_pictures_are_small() -> None:
    shown = set()
    for readme in ("README.org", "README.zh-CN.org"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        shown |= set(re.findall(r"\[\[file:(\S+?\.(?:png|svg))\]\]", text))
    pictures = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests/screenshots").glob("*.png")}
    assert len(pictures) == 4
    assert pictures <= shown
    for picture in shown:
        assert (ROOT / picture).stat().st_size <= 60 * 1024


def test_the_windows_chart_is_that_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))
    draw = importlib.import_module("chart_windows").draw
    assert draw() == (ROOT / "tests/bench/results/windows.svg").read_text(encoding="utf-8")


def test_the_files_that_are_named_exist() -> None:
    named = re.findall(
        r"=((?:tests|lisp|python)/\S+\.(?:el|py))=", (ROOT / "README.org").read_text("utf-8")
    )
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).exists(), name


def write_blocks(directory: Path, *names: str) -> None:
    """Write the blocks with NAMES to files in DIRECTORY; parts, "FILE N", are one file."""
    for name in names:
        parts = [body for block, body in blocks().items() if block.split(" ")[0] == name]
        assert parts
        (directory / name).write_text("\n".join(parts))


def emacs(directory: Path, *arguments: str, timeout: float = 30) -> str:
    """Run Emacs in DIRECTORY with ARGUMENTS and return what it printed."""
    program = shutil.which(os.environ.get("EMACS", "emacs"))
    if not program:
        pytest.skip("needs emacs")
    options = (
        f"(setq load-prefer-newer t dualstack-python {lisp(sys.executable)}"
        f" dualstack-sidecar-environments-directory {lisp(directory / 'environments')})"
    )
    # Emacs ends its children by SIGHUP, which those of nohup ignore.
    end = "(add-hook 'kill-emacs-hook (lambda () (mapc #'delete-process (process-list))))"
    # Into files: under Wine its desktop, which an Emacs starts, would keep pipes open.
    files = [directory / "output", directory / "errors"]
    command = [program, "-Q", "--batch", "-L", str(ROOT / "lisp"), "-L", str(directory)]
    with files[0].open("wb") as output, files[1].open("wb") as errors:
        subprocess.run(
            [*command, "--eval", options, "--eval", end, *arguments],
            cwd=directory, stdout=output, stderr=errors, check=False,
            timeout=timeout * (4 if sys.platform == "win32" else 1),  # Wine is slow to start it.
        )  # fmt: skip
    text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    return text.replace("\r\n", "\n")


def lisp(value: object) -> str:
    """Return VALUE as a string in Lisp."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_the_package_of_your_own(tmp_path: Path) -> None:
    write_blocks(tmp_path, "greeter.py", "greeter.el")
    assert blocks()["greeter.el"].count("\n") < 40
    assert blocks()["greeter.py"].count("\n") < 20
    form = '(princ (format "VALUE %S" (greeter-greet "Ada" "Alan")))'
    output = emacs(tmp_path, "-l", "greeter.el", "--eval", form)
    assert 'VALUE ("Hello, Ada!" "Hello, Alan!")' in output, output


@pytest.mark.parametrize(
    ("files", "form", "value"),
    [
        (["calc.py", "calc-epc.el"], "(calc-add 1 2 3)", "6"),
        (["sums.py", "sums.el"], "(sums-add 1 2 3)", "6"),
    ],
)
def test_what_other_packages_move_to(
    files: list[str], form: str, value: str, tmp_path: Path
) -> None:
    write_blocks(tmp_path, *files)
    output = emacs(tmp_path, "-l", files[1], "--eval", f'(princ (format "VALUE %S" {form}))')
    assert f"VALUE {value}" in output, output


TUTORIAL = """
(progn
  (let ((said nil) (shown nil))
    (advice-add 'message :before (lambda (&rest args)
                                   (push (ignore-errors (apply #'format-message args)) said)))
    (with-temp-buffer
      (insert "*two* words")
      (notes-count-words)
      (notes-html))
    (setq shown (with-current-buffer "*notes*" (buffer-string)))
    (notes-convert "folder")
    (while (not (member "Converted 3 files" said)) (accept-process-output nil 0.01))
    (princ (format "VALUE %S" (list (and (member "2 words" said) t) shown
                                    (and (seq-find (lambda (text)
                                                     (string-match-p "Converting.*b.md" (or text "")))
                                                   said)
                                         t)
                                    (directory-files "folder" nil "html"))))
    (notes-convert "many")
    (notes-cancel)
    (notes-call 'words "")
    (princ (format "CANCELLED %S" (< (length (directory-files "many" nil "html")) 500)))))
"""


def test_the_tutorial(tmp_path: Path) -> None:
    write_blocks(tmp_path, "notes.py", "notes.el", "notes-test.el")
    for folder, count in (("folder", 3), ("many", 2000)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            name = "abc"[number] if count == 3 else number
            (tmp_path / folder / f"{name}.md").write_text("# Title\n" * (1 if count == 3 else 50))
    output = emacs(
        tmp_path, "-l", "notes-test.el", "--eval", "(ert-run-tests-batch)",
        "-l", "notes.el", "--eval", TUTORIAL, timeout=180,
    )  # fmt: skip
    if re.search("No matching distribution|ConnectionError|there is no environment", output):
        pytest.skip("needs a package index, and Python's venv or uv")
    assert "3 results as expected, 0 unexpected" in output, output
    shown = r'"<p><em>two</em> words</p>\n"'.replace(r"\n", "\n")
    assert f'VALUE (t {shown} t ("a.html" "b.html" "c.html"))' in output, output
    assert "CANCELLED t" in output, output


def test_the_distribution_builds_and_runs_alone(tmp_path: Path) -> None:
    if tuple(map(int, importlib.metadata.version("setuptools").split(".")[:1])) < (77,):
        pytest.skip("needs setuptools 77")
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


def test_calls_that_last() -> None:
    scope: dict[str, Any] = {}
    exec(compile(blocks()["lasting.py"], "lasting.py", "exec"), scope)
    with serving() as server, connect_client(port=port(server)) as client:
        for name in ("copy", "lengths", "search"):
            server.register_function(scope[name])
        client.functions["buffer-length"] = len
        assert client.call_sync("copy", [["a", "b"]], 30) == 2
        assert client.call_sync("lengths", ["a", "bcd"], 30) == [1, 3]
        with pytest.raises(CallTimeoutError):
            client.call_sync("search", ["x"], 0.1)
        assert client.call_sync("copy", [[]], 30) == 0
