# SPDX-License-Identifier: GPL-3.0-or-later
"""An sshd of a test's own, on a loopback port, that lets this user in with a key of its own.

``python sshd.py DIRECTORY`` writes its keys, and `ssh_config` with the host ``dualstack-test``, to
DIRECTORY, prints a line once it listens, and ends with its input.  ``python sshd.py DIRECTORY
SECONDS`` is as far away.  ``python sshd.py --find`` says whether there is a program sshd, by its
status.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from far import lead_to

PRIVILEGED = Path("/run/sshd")  # sshd of root wants it, as its services make it


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def configure(directory: Path, port: int, reached_at: int) -> None:
    """Write keys and configurations for PORT, which is REACHED_AT another, to DIRECTORY."""
    for key in ("host", "id"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)], check=True
        )
    (directory / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nUsePAM no\n"
        f"AuthorizedKeysFile {directory}/id.pub\nStrictModes no\nPidFile {directory}/sshd.pid\n"
        "PasswordAuthentication no\nPrintMotd no\n"
        # The user's own ~/.bashrc is none of the test's business: bash reads it at level 1.
        "SetEnv SHLVL=2\n"
        # A shell that greets, as many do.
        'ForceCommand echo "Welcome to the test host"; if [ -n "$SSH_ORIGINAL_COMMAND" ];'
        ' then exec sh -c "$SSH_ORIGINAL_COMMAND"; else exec sh -i; fi\n'
    )
    (directory / "ssh_config").write_text(
        f"Host dualstack-test\nHostName 127.0.0.1\nPort {reached_at}\nIdentityFile {directory}/id\n"
        "IdentitiesOnly yes\nUserKnownHostsFile /dev/null\nStrictHostKeyChecking no\n"
        "LogLevel ERROR\n"
    )


def find() -> str:
    """Return the program sshd, or exit."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return program or sys.exit("there is no sshd")


def main(directory: Path, delay: float = 0) -> None:
    """Run until standard input ends, DELAY seconds away."""
    program = find()
    port = free_port()
    configure(directory, port, lead_to(port, delay) if delay else port)
    made = os.geteuid() == 0 and not PRIVILEGED.exists()
    if made:
        PRIVILEGED.mkdir(mode=0o755)
    try:
        with subprocess.Popen([program, "-D", "-e", "-f", str(directory / "sshd_config")]) as sshd:
            try:
                while sshd.poll() is None:
                    with contextlib.suppress(OSError):
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    time.sleep(0.01)
                print(sshd.pid, flush=True)
                sys.stdin.read()
            finally:
                sshd.kill()
    finally:
        if made:
            with contextlib.suppress(OSError):
                PRIVILEGED.rmdir()


if __name__ == "__main__":
    if sys.argv[1] == "--find":
        find()
    else:
        main(Path(sys.argv[1]), *map(float, sys.argv[2:]))
