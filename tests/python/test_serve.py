# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``dualstack-epc serve``, as the child process that it is."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dualstack_epc.rpc.client import connect
from dualstack_epc.wire.lisp import Cons, Symbol
from dualstack_epc.wire.reader import read

from conftest import (
    ENDINGS,
    SUPPORT,
    TAKES_SIGNALS,
    command_line,
    ended_by,
    refused,
    seconds_of,
    started,
    terminated,
    wait_until,
    within,
)

if TYPE_CHECKING:
    from conftest import Child

MISSING = Path("/no/such/file.py").absolute()

MODULE = '''
"""A module with functions."""
import os
import sys

print("printed at import")
os.write(1, b"written at import\\n")


def add_up(first, second=2, *rest):
    """Return the sum.

    Of all.
    """
    print("printed in a call")
    return first + second + sum(rest)


def _hidden():
    pass


class NotAFunction:
    pass


from os.path import join
'''


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends."""
    return subprocess.run(
        command_line("serve", *arguments),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        **options,
    )


@pytest.fixture
def module(tmp_path: Path) -> Path:
    file = tmp_path / "my_functions.py"
    file.write_text(MODULE, encoding="utf-8")
    return file


def test_hello_and_stop() -> None:
    with started(*command_line("serve")) as child:
        for host in ["127.0.0.1", "::1"]:
            with connect(host, child.port) as client:
                assert client.call_sync("hello", [], 30) == "hello"
                assert client.call_sync("stop", [], 30) is True
                wait_until(lambda client=client: not client._reader.is_alive())  # type: ignore[misc]
        output, log = terminated(child)
        assert output == ""
        assert f"serving at 127.0.0.1:{child.port} and [::1]:{child.port}" in log


def ending(event: str, arguments: list[str]) -> float:
    """Return in how many seconds EVENT ends a server with ARGUMENTS, in order."""
    status, seconds, log = ended_by(event, *command_line("serve", *arguments))
    assert status == 0
    assert "Traceback" not in log
    return seconds


@pytest.mark.parametrize("event", ENDINGS)
def test_it_ends_at_once_and_in_order(event: str) -> None:
    for arguments in [[], ["--exit-on-eof", "--auth"]]:
        within(2, lambda arguments=arguments: ending(event, arguments))  # type: ignore[misc]


@pytest.mark.parametrize("arguments", [["serve"], ["hello"], ["serve", "--stdio", "--ready", "x"]])
def test_a_signal_ends_it_at_any_moment(arguments: list[str]) -> None:
    for step in range(10):
        two = step % 2 and sys.platform != "win32"  # It has a second one only where a console is.
        events = "SIGINT,SIGTERM" if two else "SIGINT"
        when = ["--after", str(step * 0.008)]
        status, _, log = ended_by(events, *command_line(*arguments), when=when)
        assert (status, "Traceback" in log) == (0, False), log


def test_a_signal_that_does_not_wake_the_main_thread_ends_it(tmp_path: Path) -> None:
    if sys.platform == "win32":  # There each comes in a thread of its own.
        assert ended_by("SIGINT", *command_line("serve"))[0] == 0
        return
    module = tmp_path / "takes.py"
    module.write_text(TAKES_SIGNALS)
    with started(*command_line("serve", str(module))) as child:
        with connect(port=child.port) as client:
            assert client.call_sync("hello", [], 20) == "hello"
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0


def test_a_signal_ends_an_import_that_catches_everything(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    module = tmp_path / "stubborn.py"
    module.write_text(
        f"import time\nopen({str(begun)!r}, 'w').close()\n"
        "while True:\n    try:\n        time.sleep(0.01)\n    except BaseException:\n        pass\n"
    )
    for event in ENDINGS:
        begun.unlink(missing_ok=True)
        when = ["--once", str(begun)]
        assert ended_by(event, *command_line("serve", str(module)), when=when)[0] == 0


def test_its_end_closes_connections() -> None:
    with started(*command_line("serve")) as child:
        with connect(port=child.port) as client:
            client.call_sync("hello", [], 30)
            _, log = terminated(child)
        assert "Traceback" not in log
        assert refused("ipv4", child.port)


def test_functions_of_a_file(module: Path) -> None:
    with started(*command_line("serve", str(module))) as child:
        with connect(port=child.port) as client:
            assert client.call_sync("add_up", [1], 30) == 3
            assert client.call_sync("add-up", [1, 2, 3, 4], 30) == 10
            methods = {
                str(name): [arguments, doc] for name, arguments, doc in client.methods_sync(5)
            }
        names = ["first", "&optional", "second", "&rest", "rest"]
        assert methods["add-up"] == [[Symbol(n) for n in names], "Return the sum.\n\nOf all."]
        assert set(methods) == {"hello", "stop", "add_up", "add-up"}
        output, log = terminated(child)
        # What the module prints goes to the log; the pipe carries the port alone.
        assert output == ""
        assert "printed at import" in log
        assert "written at import" in log
        assert log.count("printed in a call") == 2


def test_functions_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "json"  # as Python calls one of its own
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from .inner.deep import WORD\nimport json\n"
        "def word(): return [WORD, json.dumps(1), __name__]\n"
    )
    (package / "inner" / "deep.py").write_text("WORD = 'deep'\n")
    with started(*command_line("serve", str(package / "__init__.py"))) as child:
        with connect(port=child.port) as client:
            assert client.call_sync("word", [], 5) == ["deep", "1", "sidecar_json"]


def test_functions_of_a_module_by_name(module: Path) -> None:
    module.write_text(MODULE + "\n__all__ = ['join', 'add_up', 'NotAFunction', 'missing']\n")
    path = [str(module.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with subprocess.Popen(
        command_line("serve", "my_functions"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as child:
        assert child.stdout is not None
        with connect(port=int(child.stdout.readline())) as client:
            names = {str(name) for name, _, _ in client.methods_sync(5)}
            assert client.call_sync("join", ["a", "b"], 30) == os.path.join("a", "b")  # noqa: PTH118
        child.terminate()
    assert names == {"hello", "stop", "join", "add_up", "add-up", "NotAFunction"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module", "there is no module no_such_module: name its file, or its directory with --path"),
        ("os.no_such", "there is no module os.no_such: name its file, or its directory with --path"),
        (str(MISSING), f"there is no file {MISSING}"),
    ],
)  # fmt: skip
def test_an_unknown_module_is_one_line_and_status_1(name: str, reason: str) -> None:
    result = run(name)
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        f"dualstack-epc: {reason}\n",
    )


def test_a_module_that_does_not_load_is_named(module: Path) -> None:
    # Each has another length: a file changed within a second is known by that alone.
    for text, reason in [
        ("1/0", "ZeroDivisionError"),
        ("(", "SyntaxError"),
        ("import nonesuch", "nonesuch"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt()", "KeyboardInterrupt"),
        (r"raise ValueError('a\nb\x1b[2J')", r"a\nb\x1b[2J"),
    ]:
        module.write_text(text)
        result = run(str(module))
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"dualstack-epc: module {module} does not load: ")
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with started(*command_line("serve")) as child:
        result = run("--port", str(child.port))
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr == f"dualstack-epc: port {child.port} is in use at 127.0.0.1:{child.port}\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "192.0.2.1"],
        ["--host", "192.0.2.1", "--auth"],
        ["--host", "0.0.0.0", "--auth", "--allow-remote"],
        ["--host", "::", "--auth", "--allow-remote"],
    ],
)
def test_the_network_is_not_listened_to_by_accident(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


def announced(child: Child) -> str:
    """Return the token that CHILD announces, and check the rest of it."""
    assert child.stdout is not None
    name, version, *rest = read(child.stdout.readline())
    assert (name, version) == (Symbol("dualstack-epc"), 1)
    token, addresses = rest[1], rest[3]
    assert rest[::2] == [Symbol(":token"), Symbol(":addresses")]
    assert addresses == [Cons("127.0.0.1", child.port), Cons("::1", child.port)]
    assert re.fullmatch("[0-9a-f]{64}", token)
    return str(token)


def test_authentication_is_announced_and_asked_for() -> None:
    with started(*command_line("serve", "--auth")) as child:
        token = announced(child)
        with connect(port=child.port, token=token) as client:
            assert client.call_sync("hello", [], 30) == "hello"
        with connect(port=child.port) as client:
            with pytest.raises(Exception, match="authentication"):
                client.call_sync("hello", [], 30)
        _, log = terminated(child)
        assert token not in log


def test_the_token_is_not_in_the_environment_or_arguments() -> None:
    with started(*command_line("serve", "--auth")) as child:
        token = announced(child).encode()
        if sys.platform == "linux":
            assert token not in Path(f"/proc/{child.pid}/environ").read_bytes()
            assert token not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        # What it was started with; it alone can have made the token since.
        assert token.decode() not in str([child.args, os.environ])
        terminated(child)


def test_the_log_goes_to_a_file_of_the_user_alone(module: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(*command_line("serve", str(module), "--log-file", str(log))) as child:
        with connect(port=child.port) as client:
            client.call_sync("add_up", [1], 30)
        assert terminated(child) == ("", "")
    assert "printed in a call" in log.read_text()
    if sys.platform != "win32":  # There the folder says who may read it.
        assert log.stat().st_mode & 0o777 == 0o600
    assert b"\r\r" not in log.read_bytes()


def test_a_log_file_that_is_full_is_put_aside(module: Path, tmp_path: Path) -> None:
    module.write_text("def say(count, letter='x'): print(letter * count); return 1\n")
    log = tmp_path / "log"
    with started(*command_line("serve", str(module), "--log-file", str(log))) as child:
        with connect(port=child.port) as client:
            for _ in range(12):
                assert client.call_sync("say", [1_000_000], 30) == 1
            assert client.call_sync("say", [10, "y"], 30) == 1
        terminated(child)
    assert "y" * 10 in log.read_text()
    assert log.stat().st_size < 10_000_000 < log.with_name("log.1").stat().st_size


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    file = tmp_path / "no" / "such" / "log"
    result = run("--log-file", str(file))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"dualstack-epc: {file}: No such file or directory\n"


def test_a_full_disk_for_the_log_ends_nothing(module: Path) -> None:
    module.write_text("print('import')\ndef say():\n    print('call')\n    return 1\n")
    full = [] if sys.platform == "win32" else ["--log-file", "/dev/full"]
    with started(*command_line("serve", str(module), *full)) as child:
        if not full:  # A pipe that nobody reads takes no more either.
            assert child.stderr is not None
            child.stderr.close()
            child.stderr = None
        with connect(port=child.port) as client:
            assert client.call_sync("say", [], 30) == 1
            assert client.call_sync("hello", [], 30) == "hello"
        terminated(child)


def test_it_ends_with_its_input_when_asked() -> None:
    def end() -> float:
        with started(*command_line("serve", "--exit-on-eof")) as child:
            assert child.stdin is not None
            child.stdin.close()
            seconds = seconds_of(lambda: child.wait(30))
            assert child.returncode == 0
            return seconds

    within(2, end)


def test_it_ends_with_its_input_even_if_a_method_does_not(module: Path) -> None:
    module.write_text("import time\ndef sleep():\n    time.sleep(60)\n")

    def end() -> float:
        with started(*command_line("serve", str(module), "--exit-on-eof")) as child:
            with connect(port=child.port) as client:
                client.call_future("sleep", [])
                client.call_sync("hello", [], 30)
                assert child.stdin is not None
                child.stdin.close()
                return seconds_of(lambda: child.wait(30))

    within(2, end)


def test_what_a_method_starts_gets_an_empty_input_at_once(module: Path) -> None:
    """On Windows the child would wait for the read that watches standard input."""
    module.write_text(
        "import subprocess, sys\n"
        "CODE = 'import sys; print(len(sys.stdin.read()))'\n"
        "def start():\n"
        "    run = subprocess.run([sys.executable, '-c', CODE], stdout=subprocess.PIPE, text=True)\n"
        "    return run.stdout.strip()\n"
    )
    with started(*command_line("serve", str(module), "--exit-on-eof")) as child:
        assert child.stdin is not None
        with connect(port=child.port) as client:
            assert client.call_sync("start", [], 20) == "0"
        child.stdin.write("not for them\n")
        child.stdin.flush()
        with connect(port=child.port) as client:
            assert client.call_sync("start", [], 20) == "0"
        child.stdin.close()
        assert child.wait(30) == 0


def test_the_first_socket_of_an_emacs_on_windows_is_no_warning() -> None:
    with started(*command_line("serve", "--auth")) as child:
        token = announced(child)
        socket.create_connection(("::1", child.port)).close()
        with connect("::1", child.port, token=token) as client:
            assert client.call_sync("hello", [], 30) == "hello"
        _, log = terminated(child)
        assert log.count("\n") == 1


def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n"
        "print(p.stdout.readline().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, *command_line("serve", "--exit-on-eof")]
    with started(*command) as parent:
        assert not refused("ipv4", parent.port)
        parent.kill()
        parent.wait()
        start = time.monotonic()
        wait_until(lambda: refused("ipv4", parent.port))
        assert time.monotonic() - start < 2


def test_a_sidecar_is_serve_with_proof_that_ends_with_its_input(module: Path) -> None:
    command = [sys.executable, "-m", "dualstack_epc", "sidecar"]
    for arguments in [[str(module)], [str(module), "--family", "ipv4"]]:
        with started(*command, *arguments) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            announced = read(child.stdout.readline())
            with connect("127.0.0.1", child.port, token=announced[3]) as client:
                assert client.call_sync("add-up", [1], 30) == 3
            assert refused("ipv6", child.port) == (len(arguments) > 1)
            child.stdin.close()
            assert child.wait(30) == 0


def test_without_input_it_stays() -> None:
    with started(*command_line("serve")) as child:
        assert child.stdin is not None
        child.stdin.close()
        with connect(port=child.port) as client:
            assert client.call_sync("hello", [], 30) == "hello"
        child.terminate()
        assert child.wait(30) == (1 if sys.platform == "win32" else 0)


FORKING = """
import multiprocessing
import os
import time

context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")


def _work(begun):
    begun.set()
    time.sleep(1000)


def run():
    begun = context.Event()
    child = context.Process(target=_work, args=(begun,))
    child.start()
    begun.wait()
    child.terminate()
    child.join(10)
    status = child.exitcode
    child.kill()
    return status


def leave():
    if os.fork() == 0:
        time.sleep(4)
        os._exit(0)
"""


def test_processes_of_multiprocessing_end_and_the_server_goes_on(module: Path) -> None:
    module.write_text(FORKING)
    # By its name: a process that is not forked imports the module again.
    with started(*command_line("serve", "--path", str(module.parent), module.stem)) as child:
        for host in ["127.0.0.1", "::1"]:
            with connect(host, child.port) as client:
                assert client.call_sync("run", [], 30) == -signal.SIGTERM


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_fork_does_not_keep_the_pipe_of_emacs(module: Path) -> None:
    module.write_text(FORKING)
    with started(*command_line("serve", "--exit-on-eof", str(module))) as child:
        with connect(port=child.port) as client:
            client.call_sync("leave", [], 5)
        child.kill()
        start = time.monotonic()
        assert child.stderr
        child.stderr.read()  # To the end: the guard's, which has it.
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
@pytest.mark.parametrize("options", [["--exit-on-eof"], ["--stdio"]])
def test_standard_streams_may_be_closed_from_the_start(closed: str, options: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, str(SUPPORT / "without.py"), closed, *command_line("serve", *options)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    assert (result.returncode, "rror" in result.stderr) == (0, False)
    if options == ["--exit-on-eof"] and "1" not in closed:
        assert re.fullmatch(r"[0-9]+\n", result.stdout)


def test_it_has_no_warning_of_python_in_its_log() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "dualstack_epc", "sidecar"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr.count("\n")) == (0, 1)


def test_help_names_every_option() -> None:
    result = run("--help")
    assert result.returncode == 0
    for option in [
        "--port",
        "--family",
        "--auth",
        "--exit-on-eof",
        "--log-file",
        "--log-level",
        "--allow-remote",
    ]:
        assert option in result.stdout
