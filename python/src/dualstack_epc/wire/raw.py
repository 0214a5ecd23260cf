# SPDX-License-Identifier: GPL-3.0-or-later
r"""Bytes as they are, in payloads between two ends of this package.

Emacs reads a string of ASCII and bytes that are not UTF-8 as a unibyte string.  So bytes need no
escape, but where some of them happen to be UTF-8: there a backslash and a newline, which stand for
nothing in a string, come between.  10 MB of random bytes become 11, where escapes make 25 of them.
"""

from __future__ import annotations

import codecs

from dualstack_epc.wire.errors import ReadError
from dualstack_epc.wire.patterns import re

# What could begin a character in Emacs's decoder, which takes more for UTF-8 than there is.
_START = rb"[\xc0-\xff](?=[\x80-\xbf])"
_SURROGATE = "[\udc80-\udcff]"
# An escape that is not to be left to Python's own decoder; of backslashes there are no pairs.
_NOT_OCTAL = r'\\(?![0-3][0-7]{2}|")'


def literal(value: bytes) -> bytes:
    """Return VALUE as a string literal with bytes in it that are not UTF-8."""
    text = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + re.sub(_START, rb"\g<0>" + b"\\\\\n", text) + b'"'


def escaped(value: bytes) -> str:
    """Return VALUE as a string literal in ASCII."""
    text = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"').decode("latin-1")
    return f'"{text.translate(_ESCAPES)}"'


_ESCAPES = {code: f"\\{code:03o}" for code in (*range(0x20), *range(0x7F, 0x100))}


def unescaped(body: str) -> bytes | None:
    """Return the bytes that BODY of a string literal has as octal escapes, or None.

    None means that there are other escapes, or characters, or no byte over 127.
    """
    # A pattern for the whole would take 200 bytes of memory for each escape.
    if not body.isascii() or re.search(_NOT_OCTAL, body.replace("\\\\", "__")):
        return None
    value = codecs.escape_decode(body.encode("ascii"))[0]
    return None if value.isascii() else value


def decode(payload: bytes) -> str:
    """Return PAYLOAD as text, with lone surrogates for the bytes that are not UTF-8."""
    return payload.decode("utf-8", "surrogateescape")


def resolve(text: str) -> str | bytes:
    """Return TEXT, the value of a string literal, as the bytes that it has surrogates for.

    Raise `ReadError` if it has characters as well.
    """
    if text.isascii() or not re.search(_SURROGATE, text):
        return text
    try:
        return text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        raise ReadError("a string with both characters and raw bytes cannot cross") from None


def check_name(name: str) -> None:
    """Raise `ReadError` if NAME, of a symbol, has bytes that are not UTF-8."""
    if not name.isascii() and re.search(_SURROGATE, name):
        raise ReadError("a symbol with bytes that are not UTF-8")
