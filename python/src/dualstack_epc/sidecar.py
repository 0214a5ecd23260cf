# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m dualstack_epc.sidecar [MODULE...]``: the child process that Emacs starts.

That is ``dualstack-epc serve --auth --exit-on-eof [MODULE...]``, which takes other options too.
Where there are none, no parser for them is loaded: it is a sixth of the time to the first reply.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Serve the modules that the command line names, and exit."""
    # Until `serve` enables it: while modules load there is no garbage, and looking takes 1 ms.
    gc.disable()
    arguments = sys.argv[1:]
    if any(argument.startswith("-") for argument in arguments):
        from dualstack_epc import cli  # noqa: PLC0415, see above

        cli.main(["serve", "--auth", "--exit-on-eof", *arguments])
    from dualstack_epc import process  # noqa: PLC0415, not before that
    from dualstack_epc.rpc import serve  # noqa: PLC0415, not before that

    process.run(lambda: serve.run(arguments, auth=True, exit_on_eof=True))


if __name__ == "__main__":
    main()
