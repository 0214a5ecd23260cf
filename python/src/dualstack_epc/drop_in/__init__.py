# SPDX-License-Identifier: GPL-3.0-or-later
"""The drop-in replacement for python-epc: the only package that knows `epc` and `sexpdata`."""

from __future__ import annotations

from importlib.util import find_spec

for _name in ("epc", "sexpdata"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"DualStackEPCServer needs the package {_name}, which is not here:"
            " install epc and sexpdata 1.0.2, or use Server, which does without",
            name=_name,
        )
