# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs on the machine that Wine runs on, from a program in Wine.

Windows users reach a sidecar on a GNU/Linux machine by ssh, and servers in WSL or in a container at
a loopback port.  Where the tests run under Wine, the system below is that other machine:

    python host.py run PROGRAM [ARGUMENT...]        run it there, with these standard streams
    python host.py ssh [OPTION...] HOST [WORD...]   as ssh does: a shell, or WORDs by one
    python host.py make DIRECTORY                   make an ssh.exe there, which does that
    python host.py with SETTING... -- PROGRAM [ARGUMENT...]
                              run PROGRAM here while "FILE VALUE"s are there, below /proc/sys/net

`Service` is the other end, which run_windows.py starts; DUALSTACK_HOST is its port and a word that
it asks for.  The program `python` there is the one that has started it.  Of the options of ssh the
Port in the file of -F counts; as plink's, a shell has a terminal.
"""

from __future__ import annotations

import contextlib
import hmac
import importlib.util
import io
import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUTPUT, ERRORS, STATUS = 1, 2, 0  # what a frame from the service has
PATIENCE = 5  # seconds for a program to end when its caller has gone
LOST = 255  # the status of ssh where it has no connection
# A shell that greets, as many do; it has the words to run, or asks for them.
GREETING = """echo 'Welcome to the test host'
SSH_CONNECTION='127.0.0.1 1 127.0.0.1 22'; export SSH_CONNECTION
if [ -n "$1" ]; then exec sh -c "$1"; else exec sh -i; fi"""


def send(sock: socket.socket, kind: int, data: bytes) -> None:
    """Send a frame of KIND with DATA."""
    sock.sendall(bytes([kind]) + len(data).to_bytes(4, "big") + data)


def frames(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the frames that come from SOCK, as kinds and data, until it ends."""
    with contextlib.suppress(OSError), sock.makefile("rb") as stream:
        while len(head := stream.read(5)) == 5:
            yield head[0], stream.read(int.from_bytes(head[1:], "big"))


class Service:
    """What runs programs for who knows the word; `name` is its port and that word."""

    def __init__(self) -> None:
        """Begin to listen, on a loopback port."""
        self.environment = dict(os.environ)  # What is changed later is for Wine.
        self.word = secrets.token_hex(16)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.name = f"{self.listener.getsockname()[1]} {self.word}"
        self.running: set[Running] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and end what still runs."""
        self.listener.close()
        for running in list(self.running):
            end(running)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Run what CLIENT asks for."""
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            incoming = frames(client)
            asked = json.loads(next(incoming, (0, b"{}"))[1])
            if not hmac.compare_digest(asked.get("word", ""), self.word):
                return
            try:
                running = start(asked["command"], self.environment, terminal=asked["terminal"])
            except OSError as error:
                send(client, ERRORS, f"{error}\n".encode())
                send(client, STATUS, bytes([127]))
                return
            self.running.add(running)
            threading.Thread(target=feed, args=(running, incoming), daemon=True).start()
            try:
                answer(client, running)
            finally:
                end(running)
                self.running.discard(running)
                if running.terminal is not None:
                    os.close(running.terminal)


@dataclass(eq=False)
class Running:
    """A program: what writes to it, and the descriptors that it is read from, by kinds of frames.

    What writes is told the end by no bytes.
    """

    process: subprocess.Popen[bytes]
    write: Callable[[bytes], None]
    streams: dict[int, int]
    terminal: int | None = None


def answer(client: socket.socket, running: Running) -> None:
    """Send CLIENT what the program RUNNING says, and its status."""
    lock = threading.Lock()

    def carry(kind: int, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # A terminal's end is one.
            while data := os.read(descriptor, 65536):
                with lock:
                    send(client, kind, data)

    readers = [
        threading.Thread(target=carry, args=pair, daemon=True) for pair in running.streams.items()
    ]
    for reader in readers:
        reader.start()
    status = running.process.wait()
    for reader in readers:
        reader.join(PATIENCE)  # What it has started may keep them open.
    with contextlib.suppress(OSError), lock:
        send(client, STATUS, bytes([status % 256]))


def start(command: list[str], environment: dict[str, str], *, terminal: bool) -> Running:
    """Start COMMAND with ENVIRONMENT, in a terminal if TERMINAL."""
    words = [sys.executable if word == "python" else word for word in command]
    if terminal:
        ours, theirs = os.openpty()
        # A shell of its own session makes the first terminal that it opens its own.
        opener = ["sh", "-c", 'exec <"$0" >"$0" 2>&1; exec "$@"', os.ttyname(theirs)]
        process = subprocess.Popen(
            [*opener, *words], env=environment, start_new_session=True, stdin=subprocess.DEVNULL
        )
        # Who has gone is told by a signal: no bytes are the end for a terminal in raw mode.
        return Running(process, lambda data: write_all(ours, data), {OUTPUT: ours}, ours)
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        words, env=environment, start_new_session=True, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    stdin = process.stdin

    def write(data: bytes) -> None:
        with contextlib.suppress(OSError):
            if data:
                stdin.write(data)
                stdin.flush()
            else:
                stdin.close()

    kinds = {OUTPUT: process.stdout.fileno(), ERRORS: process.stderr.fileno()}
    return Running(process, write, kinds)


def write_all(descriptor: int, data: bytes) -> None:
    """Write DATA to DESCRIPTOR, unless nobody reads that any longer."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


def feed(running: Running, incoming: Iterator[tuple[int, bytes]]) -> None:
    """Give the program RUNNING what comes by INCOMING; end it when its caller has gone."""
    for _, data in incoming:
        running.write(data)
    running.write(b"")
    groups = [running.process.pid]
    with contextlib.suppress(OSError):  # It has ended.
        if running.terminal is not None:
            groups.append(os.tcgetpgrp(running.terminal))
    for group in filter(None, groups):  # 0 is our own, where the terminal has none.
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGHUP)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(PATIENCE)
    end(running)


def end(running: Running) -> None:
    """End the program RUNNING and what it has started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()


@contextlib.contextmanager
def settings(lines: list[str]) -> Iterator[None]:
    """Have LINES, "FILE VALUE"s, below /proc/sys/net, and afterwards what was there."""
    before = []
    for line in lines:
        name, value = shlex.split(line)
        file = Path("/proc/sys/net", name)
        before.append((file, file.read_text()))
        file.write_text(value)
    try:
        yield
    finally:
        for file, value in before:
            file.write_text(value)


# In Wine.


def begin(command: list[str], *, terminal: bool = False, port: int = 0) -> socket.socket:
    """Have COMMAND run on that machine; return the connection.

    PORT is another that leads to the service.
    """
    usual, word = os.environ["DUALSTACK_HOST"].split()
    sock = socket.create_connection(("127.0.0.1", port or int(usual)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    asked = {"word": word, "command": command, "terminal": terminal}
    send(sock, 0, json.dumps(asked).encode())
    return sock


def lend(sock: socket.socket) -> int:
    """Have what runs at SOCK use the standard streams; return its status."""

    def carry() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(0, 65536):
                send(sock, 0, data)
            send(sock, 0, b"")

    threading.Thread(target=carry, daemon=True).start()
    for kind, data in frames(sock):
        if kind == STATUS:
            return data[0]
        write_all(kind, data)
    return LOST


def ssh(arguments: list[str]) -> int:
    """Do as ssh does with ARGUMENTS."""
    words = list(arguments)
    port = 0
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option[1:] in {"F", "o", "e", "l", "p"}:
            value = words.pop(0)
            if option == "-F":
                port = port_in(value)
    command = " ".join(words[1:])
    try:
        sock = begin(["sh", "-c", GREETING, "sh", command], terminal=not command, port=port)
    except OSError as error:
        sys.stderr.write(f"ssh: connect to host 127.0.0.1: {error}\n")
        return LOST
    return lend(sock)


def port_in(file: str) -> int:
    """Return the port that the configuration FILE names, or 0."""
    ports = re.findall(r"^Port (\d+)$", Path(file).read_text(encoding="utf-8"), re.MULTILINE)
    return int(ports[0]) if ports else 0


def run_with(arguments: list[str]) -> int:
    """Run the program in ARGUMENTS here, with settings there; return its status."""
    cut = arguments.index("--")
    there = "/" + Path(__file__).resolve().relative_to(Path(__file__).resolve().anchor).as_posix()
    with begin(["python", there, "set", *arguments[:cut]]) as sock:
        if next(frames(sock), (STATUS, b""))[0] != OUTPUT:
            sys.exit("The settings cannot be made there.")
        status = subprocess.run(arguments[cut + 1 :], check=False).returncode
        send(sock, 0, b"")
        for kind, _ in frames(sock):
            if kind == STATUS:
                break
        return status


def make(directory: Path) -> None:
    """Make the program ssh.exe in DIRECTORY, of the launcher that pip makes commands of."""
    found = importlib.util.find_spec("pip._vendor.distlib")
    assert found
    assert found.origin
    archive, here = io.BytesIO(), str(Path(__file__).resolve())
    code = f"import runpy, sys\nsys.argv.insert(1, 'ssh')\nrunpy.run_path({here!r}, run_name='__main__')"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", code)
    directory.mkdir()
    (directory / "ssh.exe").write_bytes(
        Path(found.origin).with_name("t64.exe").read_bytes()
        + f'#!"{sys.executable}"\n'.encode()
        + archive.getvalue()
    )
    print(directory.resolve())


def main() -> int:
    """Run as the module's docstring says; return the status."""
    kind, *rest = sys.argv[1:]
    if kind == "ssh":
        return ssh(rest)
    if kind == "with":
        return run_with(rest)
    if kind == "run":
        return lend(begin(rest))
    if kind == "make":
        make(Path(rest[0]))
        return 0
    with settings(rest):  # What `with` runs there.
        print("set", flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # A thread may wait for standard input.
