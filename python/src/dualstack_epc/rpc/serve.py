# SPDX-License-Identifier: GPL-3.0-or-later
"""The EPC server as a command: the child process that Emacs starts.

Standard output carries the port line, the announcement after it, and nothing else: whatever
modules print goes to the log.

What is not needed for the port line is imported after it: until then Emacs waits.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import threading
import time

from dualstack_epc.net import log
from dualstack_epc.net.listener import open_at
from dualstack_epc.net.system import on_signal
from dualstack_epc.rpc.token import new_token

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn, TextIO

    from dualstack_epc.net.listener import Listener
    from dualstack_epc.rpc.core import Server

LOG_LIMIT = 10_000_000  # bytes of a log file, of which the one before is kept, too
GRACE = 1.5  # seconds in which everything that still runs must end


def run(  # noqa: PLR0913, the command's options
    modules: list[str],
    *,
    path: Sequence[str] | None = None,
    host: str = "localhost",
    port: int = 0,
    family: str = "dual",
    allow_remote: bool = False,
    auth: bool = False,
    label: str | None = None,
    exit_on_eof: bool = False,
    stdio: bool = False,
    ready: str | None = None,
    pass_log: bool = False,
    log_file: str | None = None,
    log_level: str = "info",
) -> None:
    """Serve MODULES until a signal, or with EXIT_ON_EOF the end of standard input, ends it.

    Modules given by name are looked for in the directories PATH, too.  The options are those of
    ``dualstack-epc serve``.
    """
    stdin = _take_stdin() if exit_on_eof else 0
    stream = _take_stdout(log_file)
    if stdio:
        if sys.platform == "win32":  # Elsewhere the end of an input that is not all read is seen.
            _start_guard()
        _run_stdio(stdin, stream, _load(modules, path or ()), ready, log_level, pass_log=pass_log)
        return
    listener = _listen(host, port, family, allow_remote=allow_remote and auth)
    try:
        server = _announced(stream, listener, _load(modules, path or ()), log_level, auth=auth)
        server.label = label
        if exit_on_eof:
            threading.Thread(target=_exit_on_eof, args=(server, stdin), daemon=True).start()
        _serve(server)
    finally:
        listener.close()
        _start_exit_late()
        stream.close()


def _announced(
    stream: TextIO,
    listener: Listener,
    functions: list[tuple[str, Callable[..., Any]]],
    log_level: str,
    *,
    auth: bool,
) -> Server:
    """Return a server of FUNCTIONS at LISTENER, once STREAM has been told of it."""
    token = new_token() if auth else None
    _announce(stream, listener, token)
    # Clients can connect from here on, and wait while the rest is loaded.
    server = _server(listener, token, functions)
    _settle(functions, log_level)
    if log_level in {"debug", "info"}:
        sys.stderr.write(listener.announce("serving") + "\n")
    return server


def _take_stdin() -> int:
    """Return a descriptor of standard input, whose end is to end this process.

    Programs that methods start find nothing on theirs.  From now on a guard makes sure that this
    process ends, even if a module's import hangs.
    """
    _start_guard()
    stdin = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return stdin


def _start_guard() -> None:
    """Make sure that this process ends with the one that started it."""
    from dualstack_epc.rpc import guard  # noqa: PLC0415, others have none

    guard.start()


def _run_stdio(  # noqa: PLR0913, what it needs of the options
    stdin: int,
    stream: TextIO,
    functions: list[tuple[str, Callable[..., Any]]],
    ready: str | None,
    log_level: str,
    *,
    pass_log: bool,
) -> None:
    """Serve FUNCTIONS at the descriptor STDIN and STREAM; say first that it is READY."""
    from dualstack_epc.rpc import stdio  # noqa: PLC0415

    server = _server(None, None, functions)
    _settle(functions, log_level)
    if ready:
        # Whatever a shell or a terminal has printed before is not ours.
        stream.write(f'\n(dualstack-epc 1 :ready "{ready}")\n')
        stream.flush()

    def hung_up() -> None:
        threading.Thread(target=_exit_late, daemon=True).start()

    try:
        output = os.dup(stream.fileno())
        stdio.serve(server, stdin, output, hung_up=hung_up, pass_log=pass_log)
    finally:
        hung_up()
        stream.close()
        server.server_close()


def _take_stdout(log_file: str | None) -> TextIO:
    """Return standard output; from now on what is printed goes to LOG_FILE or standard error."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    if log_file:
        log_file = os.path.abspath(log_file)  # noqa: PTH100, pathlib takes time to load
        _open_log(log_file)
    os.dup2(2, 1)
    for name in ("stdout", "stderr"):
        log = io.TextIOWrapper(  # type: ignore[type-var]
            _Log(log_file), "utf-8", errors="backslashreplace", write_through=True
        )
        setattr(sys, name, log)
    return stream


def _open_log(log_file: str) -> None:
    """Make standard error the end of LOG_FILE."""
    # On Windows text gets its returns once: here, not in the C library as well.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    descriptor = os.open(log_file, flags, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _put_log_aside(log_file: str) -> None:
    """Rename LOG_FILE, and begin a new one."""
    if sys.platform == "win32":  # What is open cannot be renamed there.
        _open_log(os.devnull)
        os.dup2(2, 1)
    try:
        os.replace(log_file, f"{log_file}.1")  # noqa: PTH105, pathlib takes time to load
    finally:
        _open_log(log_file)
        os.dup2(2, 1)


class _Log(io.RawIOBase):
    """The log as a file.  That its disk is full ends nothing: the line is lost."""

    def __init__(self, log_file: str | None) -> None:
        """Write to standard error, which is LOG_FILE if that is given."""
        super().__init__()
        self._file = log_file

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Write DATA, if that is possible; a file that is full makes room for a new one."""
        try:
            if self._file and os.fstat(2).st_size > LOG_LIMIT:
                with contextlib.suppress(OSError):  # On Windows others may use it.
                    _put_log_aside(self._file)
            return os.write(2, data)
        except OSError:
            return len(data)


def _listen(host: str, port: int, family: str, *, allow_remote: bool) -> Listener:
    """Return the listener that the options ask for, or end with a line that says why not."""
    try:
        return open_at(host, port, family, allow_remote=allow_remote)
    except ValueError as error:
        raise SystemExit(f"dualstack-epc: {error}") from None


def _load(names: list[str], path: Sequence[str]) -> list[tuple[str, Callable[..., Any]]]:
    """Return the functions of the modules called NAMES, or end with a line that says why not.

    The directories PATH are looked at last.
    """
    if not names:
        return []
    from dualstack_epc.rpc import modules  # noqa: PLC0415, 4 ms, for pathlib

    try:
        modules.extend_path(path)
        return list(modules.methods([modules.load(name) for name in names]))
    except modules.UnknownModuleError as error:
        raise SystemExit(f"dualstack-epc: {log.one_line(str(error))}") from None


def _announce(stream: TextIO, listener: Listener, token: str | None) -> None:
    """Write the port of LISTENER to STREAM, and with TOKEN the announcement."""
    lines = f"{listener.port}\n"
    if token:
        addresses = " ".join(f'("{host}" . {port})' for host, port in listener.addresses)
        lines += f'(dualstack-epc 1 :token "{token}" :addresses ({addresses}))\n'
    stream.write(lines)
    stream.flush()


def _server(
    listener: Listener | None, token: str | None, functions: list[tuple[str, Callable[..., Any]]]
) -> Server:
    """Return the server at LISTENER, or at none, with FUNCTIONS, pairs with their names."""
    # 12 ms, in which Emacs connects.
    from dualstack_epc.rpc.answers import CloseAfter  # noqa: PLC0415
    from dualstack_epc.rpc.core import Server  # noqa: PLC0415

    server = Server(listener, token)

    def hello() -> str:
        """Return "hello"."""
        return "hello"

    def stop() -> CloseAfter:
        """Close this connection after the reply, t."""
        return CloseAfter(True)

    server.register_function(hello, "hello")
    server.register_function(stop, "stop")
    for name, function in functions:
        server.register_function(function, name)
    return server


def _settle(functions: list[tuple[str, Callable[..., Any]]], log_level: str) -> None:
    """Begin to log by LOG_LEVEL, and have garbage looked for in what FUNCTIONS will make."""
    log.send_to_stderr(log_level)
    if functions:
        log.logger()  # Theirs may log, too.
    gc.freeze()  # What is loaded stays, and is not looked at.
    gc.enable()


def _serve(server: Server) -> None:
    """Serve until a signal, or until SERVER is told to stop, and close in order."""
    try:
        server.listener.wake_by_signals()
        on_signal(server.stop)
        server.serve_forever()
    finally:
        server.server_close()


def _exit_on_eof(server: Server, stdin: int) -> None:
    """End SERVER when STDIN does: then this process's parent is gone."""
    try:
        while os.read(stdin, 4096):
            pass
    except OSError:
        pass
    _start_exit_late()
    server.shutdown()


def _start_exit_late() -> None:
    """End the process after a grace period, if a thread can start; the guard does so, too."""
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=_exit_late, daemon=True).start()


def _exit_late() -> NoReturn:
    """End the process after a grace period, whatever still runs."""
    time.sleep(GRACE)
    os._exit(0)
