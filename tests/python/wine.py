# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Wine is not Windows."""

from __future__ import annotations

import ctypes
import sys


def on_wine() -> bool:
    """Return whether this is Windows' Python, but not Windows."""
    return sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
