# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``dualstack-epc``, which needs no installation: Emacs runs this file.

    python -X utf8 .../dualstack_epc/__main__.py sidecar [--path DIRECTORY]... [MODULE]...

Nothing is imported from the current directory, whichever that is, and nothing is written beside the
source.  A Python 3 that is too old reads this file, too, so it is written in its syntax.
"""

import os
import sys

try:
    from _frozen_importlib_external import PathFinder  # importlib.machinery takes 0.6 ms
except ImportError:
    from importlib.machinery import PathFinder


def main() -> None:
    """Run the command."""
    if sys.version_info < (3, 10):  # noqa: UP036, see above
        version = "%d.%d" % sys.version_info[:2]  # noqa: UP031
        sys.exit("dualstack-epc: this is Python " + version + "; 3.10 or later is needed")
    set_path()
    if sys.argv[1:2] == ["sidecar"]:
        from dualstack_epc import sidecar  # noqa: PLC0415, the path is set for it

        sidecar.main(sys.argv[2:])
    from dualstack_epc import cli  # noqa: PLC0415, 5 ms, for argparse

    cli.main()


def set_path() -> None:
    """Take from the path what depends on the current directory, and add this file's package.

    The interpreter has put this file's directory first or, for ``python -m``, the current one.
    """
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]
    if not __package__:
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        sys.meta_path.insert(0, Unwritten)


class Unwritten:
    """Finds this package's modules, and keeps their bytecode from being written."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205
        """Return the spec of the module NAME if it is ours, as `importlib` asks for it."""
        if name.partition(".")[0] != "dualstack_epc":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if hasattr(spec and spec.loader, "set_data"):
            spec.loader.set_data = lambda *_, **__: None  # type: ignore[union-attr]
        return spec


if __name__ == "__main__":
    main()
