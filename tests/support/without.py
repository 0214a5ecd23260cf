# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command without some of its standard streams.

    python without.py "NUMBERS" COMMAND...

runs COMMAND without the streams whose NUMBERS are given, such as "0 2", and with the others of ours.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> None:
    """Run as the module's docstring says."""
    closed = {int(number) for number in sys.argv[1].split()}
    if sys.platform != "win32":
        for number in closed:
            os.close(number)
        os.execv(sys.argv[2], sys.argv[2:])
    import msvcrt  # noqa: PLC0415, it is Windows'

    handles = []
    for number in range(3):
        os.set_inheritable(number, True)
        handles.append(0 if number in closed else msvcrt.get_osfhandle(number))
    streams = subprocess.STARTUPINFO(
        dwFlags=subprocess.STARTF_USESTDHANDLES,
        hStdInput=handles[0],
        hStdOutput=handles[1],
        hStdError=handles[2],
    )
    sys.exit(subprocess.call(sys.argv[2:], startupinfo=streams, close_fds=False))


if __name__ == "__main__":
    main()
