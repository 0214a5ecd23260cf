# SPDX-License-Identifier: GPL-3.0-or-later
"""The server at standard input and output: over pipes, a pair of sockets, and a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dualstack_epc.net.pipe import PipeEnd
from dualstack_epc.rpc.client import Client
from dualstack_epc.rpc.errors import ConnectionClosedError, MethodError

from conftest import TAKES_SIGNALS, command_line, ended_by, wait_until

if sys.platform != "win32":
    import pty
    import tty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = """
import os, sys, time
from dualstack_epc import current_client

def echo(*args): return list(args)
def shout(text): print(text); os.system(f"echo {text} from a child"); return text
def slow(): time.sleep(60)
def crash(): os._exit(7)
def ask(n): return current_client().call_sync("answer", [n], timeout=5)
def fail(): raise ValueError("no")
def size(text): return len(text)
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    """Return the file of a module."""
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    return str(file)


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the server with ARGUMENTS."""
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command_line("serve", "--stdio", *arguments), **{**streams, **options})


@contextlib.contextmanager
def over(kind: str, *arguments: str) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """Give a client of a server over streams of KIND, and the server's process."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            child = start(*arguments)
            assert child.stdin
            assert child.stdout
            sock: Any = PipeEnd(child.stdout.fileno(), os.dup(child.stdin.fileno()))
            child.stdin.close()
        elif kind == "socket":
            sock, theirs = socket.socketpair()
            child = start(*arguments, stdin=theirs, stdout=theirs)
            theirs.close()
        elif sys.platform != "win32":
            parent, theirs_fd = pty.openpty()
            tty.setraw(theirs_fd)
            child = start(*arguments, stdin=theirs_fd, stdout=theirs_fd, start_new_session=True)
            os.close(theirs_fd)
            stack.callback(os.close, parent)
            sock = PipeEnd(parent, os.dup(parent))
        stack.enter_context(child)
        stack.callback(child.kill)
        client = Client(sock)
        try:
            yield client, child
        finally:
            if kind == "pty":
                child.kill()
            client.close()


# The streams of a program on Windows are no sockets, and there are no such terminals.
KINDS = pytest.mark.parametrize(
    "kind", ["pipe"] if sys.platform == "win32" else ["pipe", "socket", "pty"]
)


@KINDS
def test_calls_both_ways(kind: str, module: str) -> None:
    with over(kind, module) as (client, _):
        client.functions["answer"] = lambda n: n + 1
        assert client.call_sync("hello", [], 30) == "hello"
        assert client.call_sync("ask", [41], 30) == 42
        with pytest.raises(MethodError, match="no"):
            client.call_sync("fail", [], 30)
        assert [str(each[0]) for each in client.methods_sync(10)][:2] == ["hello", "stop"]
        futures = [client.call_future("echo", [n]) for n in range(500)]
        assert [future.result(20) for future in futures] == [[n] for n in range(500)]


@KINDS
def test_all_bytes_and_large_messages(kind: str, module: str) -> None:
    every = bytes(range(256)) * 8
    count = 16_000_000 if kind == "pipe" else 2_000_000
    with over(kind, module) as (client, _):
        assert client.call_sync("echo", [every], 30) == [every]
        text = "x" * count
        assert client.call_sync("size", [text], 40) == count
        assert client.call_sync("echo", [text], 40) == [text]


def test_what_is_printed_goes_to_standard_error(module: str) -> None:
    with over("pipe", module) as (client, child):
        assert client.call_sync("shout", ["loud"], 30) == "loud"
        assert child.stderr
        assert child.stderr.readline().rstrip() == b"loud"
        assert child.stderr.readline().rstrip() == b"loud from a child"


def test_or_to_the_client(module: str) -> None:
    got: list[str] = []
    with over("pipe", "--pass-log", module) as (client, child):
        client.functions["dualstack-log"] = got.append
        client.call_sync("shout", ["loud"], 10)
        # Each piece is a call of its own, and threads run those in any order.
        wanted = sorted("loud\nloud from a child\n")
        wait_until(lambda: sorted("".join(got).replace("\r", "")) == wanted)
        client.call_sync("stop", [], 10)
        assert child.stderr
        assert child.stderr.read() == b""


def test_it_says_that_it_is_ready_when_asked(module: str) -> None:
    with start("--ready", "abc", module) as child:
        assert child.stdout
        assert child.stdout.readline() == b"\n"
        assert child.stdout.readline() == b'(dualstack-epc 1 :ready "abc")\n'
        output, _ = child.communicate(timeout=30)
        assert output == b""
        assert child.returncode == 0


def test_a_module_that_does_not_load_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("import nonesuch\n")
    run = subprocess.run(
        command_line("serve", "--stdio", str(file)), capture_output=True, check=False, timeout=40,
        text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(r"dualstack-epc: module .*bad.py does not load: .*nonesuch.*\n", run.stderr)


@pytest.mark.parametrize("method", ["", "slow"])
def test_it_ends_with_its_input_whatever_runs(method: str, module: str) -> None:
    with start(module) as child:
        assert child.stdin
        if method:
            child.stdin.write(b"000010(call 1 slow ())")
            child.stdin.flush()
        child.stdin.close()
        child.stdin = None
        assert child.wait(30) == 0


# Stands for Emacs: it makes more calls than run at once, and then more than the pipe takes.
WRITER = """
import os, subprocess, sys
sidecar = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
frame = b"(call 000000 slow ())"
while os.write(sidecar.stdin.fileno(), b"%06x" % len(frame) + frame):
    os.write(2, b".")
"""


def test_it_ends_with_its_input_though_that_is_not_all_read(module: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    command = [sys.executable, "-c", WRITER, *command_line("serve", "--stdio", module)]
    with written.open("wb") as count:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=count) as emacs:
            wait_until_it_rests(written)
            assert emacs.poll() is None
            emacs.kill()
            emacs.communicate(timeout=30)  # Until what it has started has ended, too.


def wait_until_it_rests(file: Path) -> None:
    """Return once FILE is not empty and has not grown for a second."""
    seen = [(0, time.monotonic())]

    def rests() -> bool:
        size, now = file.stat().st_size, time.monotonic()
        if size != seen[-1][0]:
            seen.append((size, now))
        return size > 0 and now - seen[-1][1] > 1

    wait_until(rests)


def test_the_other_end_does_not_read(module: str) -> None:
    # A reply that is not read holds nothing else up for ever: the end of its input ends it.
    with start(module) as child:
        assert child.stdin
        text = b'(call 1 echo ("' + b"x" * 1_000_000 + b'"))'
        child.stdin.write(b"%06x" % len(text) + text)
        child.stdin.close()
        child.stdin = None
        assert child.wait(30) == 0


def test_a_crash_ends_calls(module: str) -> None:
    with over("pipe", module) as (client, child):
        with pytest.raises(ConnectionClosedError):
            client.call_sync("crash", [], 30)
        assert child.wait(30) == 7


def test_the_method_stop_ends_it(module: str) -> None:
    with over("pipe", module) as (client, child):
        assert client.call_sync("stop", [], 30) is True
        assert child.wait(30) == 0


def test_a_signal_ends_it(module: str) -> None:
    with over("pipe", module) as (client, child):
        client.call_sync("hello", [], 30)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == (1 if sys.platform == "win32" else 0)  # Windows kills it.


def test_a_signal_that_does_not_wake_the_main_thread_ends_it(tmp_path: Path) -> None:
    if sys.platform == "win32":  # There each comes in a thread of its own.
        assert ended_by("SIGINT", *command_line("serve", "--stdio", "--ready", "x"))[0] == 0
        return
    module = tmp_path / "takes.py"
    module.write_text(TAKES_SIGNALS)
    with over("pipe", str(module)) as (client, child):
        client.call_sync("hello", [], 30)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0


def test_no_frames_end_it(module: str) -> None:
    with start(module) as child:
        assert child.stdin
        child.stdin.write(b"GET / HTTP/1.0\r\n\r\n")
        child.stdin.flush()
        assert child.wait(30) == 0
        assert child.stderr
        assert b"closed" in child.stderr.read()


def test_closing_wakes_a_reader() -> None:
    reading, writing = os.pipe()
    end = PipeEnd(reading, os.dup(writing))
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(end.recv(10)))
    thread.start()
    end.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert got == [b""]
    with pytest.raises(OSError, match="closed here"):
        end.send(memoryview(b"x"))
    end.close()
    os.close(writing)  # On Windows a thread still reads, and its end lets it go.
    os.close(reading)


def test_it_needs_no_socket(module: str) -> None:
    code = (
        "import sys, socket\nsocket.socket = type('socket', (), {})\n"
        "from dualstack_epc.cli import main\nmain(['serve', '--stdio', sys.argv[1]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(b"000011(call 1 hello ())")
        child.stdin.flush()
        assert b'(return 1 "hello")' in child.stdout.read(6 + 18)
        child.stdin.close()
        child.stdin = None
        assert child.wait(30) == 0
