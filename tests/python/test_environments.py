# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments: made for real, by venv and pip and by uv, and what can go wrong with that."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_wheel

from dualstack_epc.environments import make, metadata
from dualstack_epc.environments.interpreters import program_in
from dualstack_epc.environments.versions import fits
from dualstack_epc.wire.reader import read

from conftest import ROOT
from wine import on_wine

COMMAND = [sys.executable, "-X", "utf8", str(ROOT / "python/src/dualstack_epc/__main__.py")]
PATH_WITHOUT_UV = os.pathsep.join(
    each for each in os.environ["PATH"].split(os.pathsep) if not shutil.which("uv", path=each)
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel with the package tiny."""
    return tiny_wheel.make(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a uv."""
    found = shutil.which("uv")
    if found:
        return Path(found).parent
    directory = tmp_path_factory.mktemp("uv")
    run = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", str(directory), "uv"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "10"},
    )  # fmt: skip
    if run.returncode != 0:
        pytest.skip("there is no uv, and it could not be fetched")
    uv = shutil.which("uv", path=str(directory / "bin"))
    assert uv
    if on_wine() and subprocess.run([uv, "--version"], check=False, capture_output=True).returncode:
        pytest.skip("uv does not run under Wine, which lacks a library that it needs")
    return directory / "bin"


def start(root: Path, *arguments: str, wrapper: tuple[str, ...] = (), **environment: str) -> Any:
    """Start the command, for environments below ROOT."""
    return subprocess.Popen(
        [*wrapper, *COMMAND, "environment", "--root", str(root), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        env={**os.environ, "PATH": PATH_WITHOUT_UV, **environment},
    )  # fmt: skip


def ends(child: Any) -> tuple[list[list[Any]], str]:
    """Return our lines that CHILD has printed, without their first word, and all it has printed."""
    output, _ = child.communicate(timeout=200 if sys.platform == "win32" else 50)
    ours = [line for line in output.splitlines() if line.startswith("(dualstack-environment ")]
    words = [read(line)[1:] for line in ours]
    return [[str(kind), *rest] for kind, *rest in words], output


def ensure(root: Path, *arguments: str, **options: Any) -> str:
    """Run the command, and return the Python that it names."""
    lines, output = ends(start(root, *arguments, **options))
    assert lines, output
    assert lines[-1][0] == "ready", output
    assert os.access(lines[-1][1], os.X_OK)
    return str(lines[-1][1])


def failure(root: Path, *arguments: str, **options: Any) -> str:
    """Run the command, and return why there is no environment; nothing half made is left."""
    child = start(root, *arguments, **options)
    lines, output = ends(child)
    assert lines, output
    assert lines[-1][0] == "failed", output
    assert child.returncode == 1
    assert not list(root.glob("making-*"))
    return str(lines[-1][1])


def run(python: str, code: str) -> str:
    """Return what PYTHON prints when it runs CODE."""
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def send_file(server: socket.socket, file: Path) -> None:
    """Answer SERVER's next request with FILE."""
    connection, _ = server.accept()
    with connection:
        while not connection.recv(65536).endswith(b"\r\n\r\n"):
            pass
        content = file.read_bytes()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + content)


def wait_for(condition: Any, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Making


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_package_is_installed_and_used(
    tool: str, wheel: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = PATH_WITHOUT_UV
    if tool == "uv":
        path = f"{request.getfixturevalue('uv')}{os.pathsep}{path}"
    root = tmp_path / "a place" / "environments ü"
    hostile = {"PIP_USER": "1", "PIP_TARGET": str(tmp_path / "no"), "PYTHONPATH": str(tmp_path)}
    options: dict[str, Any] = {"PATH": path, **hostile}
    child = start(root, "--requirement", str(wheel), "--user", "sid/ecar", **options)
    lines, output = ends(child)
    steps = [line[1:3] for line in lines if line[0] == "step"]
    assert steps == [[1, 3], [2, 3], [3, 3]], output
    assert lines[-1][0] == "ready", output
    python = lines[-1][1]
    environment = Path(python).parent.parent
    assert run(python, "import tiny; print(tiny.add(1, 2))") == "3"
    assert make.record(environment)["tool"] == tool
    assert [each.name for each in (environment / make.USERS).iterdir()] == ["sid%2Fecar"]
    # Its scripts run from where it is now.
    script = Path(python).with_name("tiny.exe" if sys.platform == "win32" else "tiny")
    assert b"making-" not in script.read_bytes()
    run_script = subprocess.run(
        [script], capture_output=True, text=True, check=True,
        # WinPython's pip makes scripts that look for their Python in the path.
        env={**os.environ, "PATH": os.pathsep.join([str(script.parent), path])},
    )  # fmt: skip
    assert run_script.stdout == "tiny\n"
    # The second time it is there.
    lines, output = ends(start(root, "--requirement", f"  {wheel} ", PATH=path))
    assert lines == [["ready", python]], output


def test_other_requirements_are_another_one(tmp_path: Path) -> None:
    first = ensure(tmp_path / "e")
    assert ensure(tmp_path / "e", "--requires-python", ">=3.10") == first
    assert len({make.Plan(each, (), None, "uv").name for each in ((), ("a",), ("a", "b"))}) == 3


def test_metadata_of_a_module(wheel: Path, tmp_path: Path) -> None:
    module = tmp_path / "my module.py"
    module.write_text(
        '# /// script\n# requires-python = ">=3.10"\n'
        f'# dependencies = [\n#   "tiny @ {wheel.as_uri()}",  # the only one\n# ]\n# ///\n'
    )
    python = ensure(tmp_path / "e", "--script", str(module))
    assert run(python, "import tiny; print(tiny.add(2, 2))") == "4"


def test_rebuilding_keeps_users(tmp_path: Path) -> None:
    root = tmp_path / "e"
    environment = Path(ensure(root, "--user", "a")).parent.parent
    first = make.record(environment)["made"]
    (environment / "junk").touch()
    ensure(root, "--user", "b", "--rebuild")
    assert make.record(environment)["made"] > first
    assert not (environment / "junk").exists()
    assert sorted(each.name for each in (environment / make.USERS).iterdir()) == ["a", "b"]
    assert not list(root.glob("former-*"))


def test_the_list(tmp_path: Path) -> None:
    root = tmp_path / "e"
    assert ends(start(root, "--list")) == ([], "")
    python = ensure(root, "--user", "a/b", "--requires-python", ">=3.10")
    (root / "making-x").mkdir()
    (root / "making-x" / "half").write_text("12345")
    (root / "former-x").mkdir()  # What a rebuilt one was stays on Windows while it runs.
    half, runs = ends(start(root, "--list"))[0]
    assert half == ["has", "making-x", 5, "half made", 0, 0, "", [], [], []]
    assert runs[1] == Path(python).parent.parent.name
    assert runs[3] == "runs"
    assert 1000 < runs[2] < 1e6
    assert time.time() - 60 < runs[4] <= runs[5] <= time.time()
    assert runs[7:] == [["a/b"], [], [">=3.10"]]
    dangling(Path(python).parent.parent)
    assert ends(start(root, "--list"))[0][1][3] == "broken"
    odd(Path(python).parent.parent)
    assert ends(start(root, "--list"))[0][1][3] == "half made"


# What is not whole


def dangling(environment: Path) -> None:
    program_in(environment).unlink()
    if sys.platform != "win32":  # Not everybody may make links there.
        program_in(environment).symlink_to("/nonexistent/python3")


def half_made(environment: Path) -> None:
    (environment / make.RECORD).unlink()
    making = environment.with_name("making-" + environment.name[7:])
    making.mkdir()
    (making / "junk").touch()


def foreign(environment: Path) -> None:
    program_in(environment).unlink()
    # Wine runs what is ELF.
    kind = b"MZ" if sys.platform == "win32" else b"\x7fELF"
    program_in(environment).write_bytes(kind + b" of another machine" + bytes(200))
    program_in(environment).chmod(0o755)


def of_another_platform(environment: Path) -> None:
    file = environment / make.RECORD
    file.write_text(json.dumps({**make.record(environment), "platform": "linux-vax"}))


def upgraded(environment: Path) -> None:
    file = environment / make.RECORD
    file.write_text(json.dumps({**make.record(environment), "python": "3.1.4"}))


def torn(environment: Path) -> None:
    (environment / make.RECORD).write_bytes(b"\x00\xff")


def odd(environment: Path) -> None:
    (environment / make.RECORD).write_text('{"python": 3, "made": [], "requirements": null}')


def a_file(environment: Path) -> None:
    shutil.rmtree(environment)
    environment.write_text("a file")


@pytest.mark.parametrize(
    "damage", [dangling, half_made, foreign, of_another_platform, upgraded, torn, odd, a_file]
)
def test_what_does_not_run_is_made_again(damage: Any, tmp_path: Path) -> None:
    root = tmp_path / "e"
    python = ensure(root)
    damage(Path(python).parent.parent)
    assert ensure(root) == python
    assert run(python, "print(1)") == "1"
    assert sorted(each.name for each in root.iterdir()) == [
        Path(python).parent.parent.name, Path(python).parent.parent.name + ".lock",
    ]  # fmt: skip


def test_two_at_once_make_one(tmp_path: Path) -> None:
    root = tmp_path / "e"
    children = [start(root) for _ in range(4)]
    results = [ends(child)[0] for child in children]
    assert len({result[-1][1] for result in results}) == 1
    assert all(result[-1][0] == "ready" for result in results)
    assert sum(["step", 3, 3, "trying it"] in result for result in results) == 1


# Windows has no signal that a process could catch but those of the console.
@pytest.mark.parametrize("end", ["eof", "KILL"] + ["TERM"] * (sys.platform != "win32"))
def test_given_up_in_the_middle(end: str, tmp_path: Path, wheel: Path) -> None:
    root = tmp_path / "e"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(40)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/{wheel.name}"
        child = start(root, "--exit-on-eof", "--requirement", url, PIP_RETRIES="0")
        connection, _ = server.accept()
        assert list(root.glob("making-*"))
        if end == "eof":
            child.stdin.close()
            child.stdin = None
        elif end == "TERM":
            child.terminate()
        else:
            child.kill()
            assert child.wait(30)
        with connection:
            connection.settimeout(40)
            while end != "KILL" and connection.recv(65536):
                pass  # pip was ended, too, and its connection with it.
        child.communicate(timeout=40)
        if end != "KILL":
            wait_for(lambda: not list(root.glob("making-*")))
            return
        again = start(root, "--requirement", url)
        send_file(server, wheel)
        lines, output = ends(again)
    assert lines[-1][0] == "ready", output
    assert run(lines[-1][1], "import tiny; print(tiny.add(1))") == "1"
    assert not list(root.glob("making-*"))


# What cannot be made


def namespace(option: str, script: str) -> tuple[str, ...]:
    """Return a wrapper for `start`: a namespace of its own, after SCRIPT; skip without."""
    if sys.platform == "win32":
        pytest.skip("needs a file system of its own, which is not to be had on Windows")
    user = "" if os.geteuid() == 0 else "r"
    wrapper = ("unshare", f"-{user}{option}", "sh", "-ec", script + '\nexec "$@"', "--")
    if (
        not shutil.which("unshare")
        or subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs unshare, and leave to make a namespace")
    return wrapper


def test_a_failed_one_replaces_nothing(wheel: Path, tmp_path: Path) -> None:
    root = tmp_path / "e"
    bad = tmp_path / wheel.name
    shutil.copy(wheel, bad)
    python = ensure(root, "--requirement", str(bad))
    bad.write_bytes(b"no wheel")
    text = failure(root, "--requirement", str(bad), "--rebuild")
    assert text.startswith("pip failed, with status 1")
    assert wheel.name in text.splitlines()[-1]
    assert run(python, "import tiny; print(tiny.add(1))") == "1"
    assert ensure(root, "--requirement", str(bad)) == python


def no_network() -> dict[str, Any]:
    """Return what to start a child with that reaches no index."""
    if sys.platform != "win32":
        return {"wrapper": namespace("n", "true")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        return {"PIP_INDEX_URL": f"http://127.0.0.1:{server.getsockname()[1]}/"}


def test_the_network_is_down(tmp_path: Path) -> None:
    text = failure(
        tmp_path / "e", "--requirement", "dualstack-no-such-name", PIP_RETRIES="1",
        PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull,
        **no_network(),
    )  # fmt: skip
    assert "the package index cannot be reached: check the network" in text


@pytest.mark.parametrize("size", ["8k", "200k"])  # for venv, and for pip
def test_the_disk_is_full(size: str, tmp_path: Path, wheel: Path) -> None:
    root, mount = tmp_path / "e", tuple[str, ...]()
    if disks := os.environ.get("DUALSTACK_SMALL_DISKS"):  # Those who run the tests have made them.
        root = Path(disks) / size
    else:
        root.mkdir()
        mount = namespace("m", f"mount -t tmpfs -o size={size} none {root}")
    text = failure(root, "--requirement", str(wheel), wrapper=mount)
    assert "full: make room" in text


def test_with_a_python_that_has_no_pip(tmp_path: Path, wheel: Path) -> None:
    # Such as one that venv has made: its own pip is then made by ensurepip.
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    child = subprocess.Popen(
        [program_in(bare), *COMMAND[1:], "environment", "--root", str(tmp_path / "e"),
         "--requirement", str(wheel)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": PATH_WITHOUT_UV},
    )  # fmt: skip
    lines, output = ends(child)
    assert lines[-1][0] == "ready", output
    assert run(lines[-1][1], "import tiny; print(tiny.add(1))") == "1"


def test_the_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = ["Not a directory", "File already exists"]
    if sys.platform == "win32":  # It says so in its own language: no such path, it exists already.
        said += [ctypes.FormatError(code).rstrip(".\u3002\r\n ") for code in (3, 183)]
    text = failure(tmp_path / "file" / "e")
    assert any(each in text for each in said)
    assert "set `dualstack-sidecar-environments-directory' to another" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requirement", "-r evil"], "'-r evil' is no requirement"),
        (["--requirement=--index-url=x"], "'--index-url=x' is no requirement"),
        (["--requirement", "./here"], "'./here' is no requirement"),
        (["--requirement", " "], "' ' is no requirement"),
        (["--requirement", "a\nb"], "'a\\nb' is no requirement"),
        (["--requires-python", "new"], "requires-python: 'new' says no version of Python"),
        (["--requires-python", ">=3.99"], "it needs Python >=3.99, and this is 3."),
        (["--script", "/nonexistent.py"], "nonexistent.py cannot be read"),
    ],
)
def test_what_makes_no_sense_is_an_error(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    assert message in failure(tmp_path / "e", *arguments)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("requirement", ["six; no_marker", "six @ file:///nonexistent/x.whl"])
def test_what_pip_does_not_understand_is_explained(requirement: str, tmp_path: Path) -> None:
    text = failure(tmp_path / "e", "--requirement", requirement, PIP_RETRIES="0")
    assert "a requirement is not one: write it as name>=1.2" in text.splitlines()[0]


def test_from_the_index(tmp_path: Path) -> None:
    child = start(tmp_path / "e", "--requirement", "six", PIP_RETRIES="0", PIP_DEFAULT_TIMEOUT="10")
    lines, output = ends(child)
    if lines[-1][0] != "ready":
        pytest.skip(f"the index cannot be reached: {output.splitlines()[-1]}")
    assert run(lines[-1][1], "import six; print(six.__name__)") == "six"


# Metadata and versions


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("", metadata.Needs()),
        ("# /// script\n# dependencies = ['a']\n# ///\n", metadata.Needs(("a",))),
        ("# /// script\r\n# dependencies = ['a']\r\n# ///\r\n", metadata.Needs(("a",))),
        ("x = 1\n# /// script\n#\n# ///\n", metadata.Needs()),
        ("# /// script\n# requires-python = '>=3'\n# ///\n", metadata.Needs((), (">=3",))),
        # The last closing line counts, and what is never closed is no block.
        ("# /// script\n# x = '''\n# ///\n# '''\n# ///\n", metadata.Needs()),
        ("# /// script\n# dependencies = ['a']\n\n# ///\n", metadata.Needs()),
        ("# /// other\n# dependencies = ['a']\n# ///\n", metadata.Needs()),
        ("  # /// script\n  # dependencies = ['a']\n  # ///\n", metadata.Needs()),
        ("# /// script\n# [tool.x]\n# y = 1\n# ///\n", metadata.Needs()),
    ],
)
def test_metadata(text: str, needs: metadata.Needs) -> None:
    assert metadata.parse(text) == needs


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("dependencies = 'a'", "must be a list of strings"),
        ("dependencies = [1]", "must be a list of strings"),
        ("requires-python = 3.11", "must be a string"),
        ("dependencies = [", ""),
    ],
)
def test_wrong_metadata_is_an_error(toml: str, message: str, tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text(f"# /// script\n# {toml}\n# ///\n")
    text = failure(tmp_path / "e", "--script", str(module))
    assert text.startswith(f"the metadata in {module} is wrong: ")
    assert message in text


def test_two_blocks_are_an_error() -> None:
    block = "# /// script\n# ///\n\n"
    with pytest.raises(ValueError, match="two blocks"):
        metadata.parse(block * 2)


@pytest.mark.parametrize(
    ("specifier", "fitting", "other"),
    [
        (">=3.11", (3, 11, 0), (3, 10, 9)),
        (">3.11", (3, 12, 0), (3, 11, 0)),
        ("~=3.11", (3, 13, 1), (4, 0, 0)),
        ("~=3.11.2", (3, 11, 5), (3, 12, 0)),
        ("==3.11.*", (3, 11, 7), (3, 12, 0)),
        ("!=3.11.*, >=3.10", (3, 12, 0), (3, 11, 7)),
        ("<3.13,>=3.10", (3, 12, 9), (3, 13, 0)),
        ("<=3.12", (3, 12, 0), (3, 12, 1)),
        ("==3.12", (3, 12, 0), (3, 12, 1)),
    ],
)
def test_specifiers(specifier: str, fitting: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert fits(fitting, specifier)
    assert not fits(other, specifier)


@pytest.mark.parametrize("specifier", ["3.11", ">=", ">=3.11a1", "~=3", ">=3.*", "x"])
def test_no_specifiers(specifier: str) -> None:
    with pytest.raises(ValueError, match="no version of Python"):
        fits((3, 11, 0), specifier)
