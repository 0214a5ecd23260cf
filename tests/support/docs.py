# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what the Python package exports, for the section "API reference" of README.org."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "src"))

import dualstack_epc


def first_line(thing: object) -> str:
    """Return the first line of the docstring of THING as Org, without its period."""
    line = (inspect.getdoc(thing) or "").split("\n")[0]
    return re.sub(r"`+([^`]+)`+", r"=\1=", line).rstrip(".")


def arguments(thing: object) -> str:
    """Return the arguments of the function or class THING, without types, as Org."""
    if not callable(thing) or (isinstance(thing, type) and issubclass(thing, BaseException)):
        return ""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:  # A class written in C has none.
        return ""
    bare = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty
            else ... if isinstance(parameter.default, type) else parameter.default,
        )
        for parameter in parameters
    ]  # fmt: skip
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


def main() -> None:
    """Print the section."""
    print("** Python\n\nBy =from dualstack_epc import ...=; all else there is private.\n")
    for name in sorted(dualstack_epc.__all__, key=str.lower):
        thing = getattr(dualstack_epc, name)
        if isinstance(thing, type) and issubclass(thing, BaseException):
            print(f"- ={name}= :: Exception: {first_line(thing)}.")
        else:
            print(f"- ={name}{arguments(thing)}= :: {first_line(thing)}.")


if __name__ == "__main__":
    main()
