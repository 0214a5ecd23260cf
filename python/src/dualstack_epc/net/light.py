# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of standard modules without the rest of them: Emacs waits for what a start imports.

They are from where these modules have them in CPython, and elsewhere from the modules themselves.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing takes 2 ms to load.

if TYPE_CHECKING:
    import signal
    from hashlib import sha256
    from hmac import compare_digest
    from queue import Empty, SimpleQueue
else:
    try:
        import _signal as signal  # signal makes enumerations of its numbers
    except ImportError:
        import signal
    try:
        from _queue import Empty, SimpleQueue  # queue takes 1 ms
    except ImportError:
        from queue import Empty, SimpleQueue
    try:
        from _operator import _compare_digest as compare_digest  # hmac takes 4 ms, for OpenSSL
    except ImportError:
        from hmac import compare_digest
    try:
        if sys.version_info < (3, 12):
            from _sha256 import sha256
        else:
            from _sha2 import sha256
    except ImportError:
        from hashlib import sha256

__all__ = ["Empty", "SimpleQueue", "compare_digest", "hmac_sha256", "signal"]

BLOCK = 64  # bytes that SHA-256 takes at once
INNER = bytes(code ^ 0x36 for code in range(256))
OUTER = bytes(code ^ 0x5C for code in range(256))


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """Return the HMAC-SHA256 of TEXT by KEY (RFC 2104)."""
    block = (sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    inner = sha256(block.translate(INNER) + text).digest()
    return sha256(block.translate(OUTER) + inner).digest()
