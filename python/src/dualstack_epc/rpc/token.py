# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret that both ends of a connection prove to know; see `auth`.

It is apart as it is announced before that is loaded: Emacs connects meanwhile.
"""

from __future__ import annotations

import os


def new_token() -> str:
    """Return a new token, 64 hexadecimal digits."""
    return os.urandom(32).hex()
