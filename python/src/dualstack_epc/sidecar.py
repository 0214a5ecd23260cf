# SPDX-License-Identifier: GPL-3.0-or-later
"""``dualstack-epc sidecar [--path DIRECTORY]... [MODULE]...``: the child process that Emacs starts.

That is ``dualstack-epc serve --auth --exit-on-eof``, which takes other options too.  Where there
are none, no parser for them is loaded.
"""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(arguments: list[str]) -> NoReturn:
    """Serve the modules that ARGUMENTS name, and exit."""
    # Until `serve` enables it: while modules load there is no garbage, and looking takes 1 ms.
    gc.disable()
    path, modules = [], list(arguments)
    while modules[:1] == ["--path"] and len(modules) > 1:
        path.append(modules[1])
        del modules[:2]
    if any(each.startswith("-") for each in modules):
        from dualstack_epc import cli  # noqa: PLC0415, 5 ms, for argparse

        cli.main(["serve", "--auth", "--exit-on-eof", *arguments])
    from dualstack_epc import process  # noqa: PLC0415, not before garbage is left alone
    from dualstack_epc.rpc import serve  # noqa: PLC0415, as above

    process.run(lambda: serve.run(modules, path=path, auth=True, exit_on_eof=True))
