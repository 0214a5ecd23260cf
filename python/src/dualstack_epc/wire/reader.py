# SPDX-License-Identifier: GPL-3.0-or-later
"""S-expressions, as Emacs Lisp's printer writes them, to Python values.

The table of what becomes what is in README.org.  Where sexpdata would change a meaning, a
`ReadError` says what it met: text properties, unreadable objects, records.  There is no recursion,
and the time is linear in the text.
"""

from __future__ import annotations

from functools import lru_cache

from dualstack_epc.wire.describe import describe
from dualstack_epc.wire.errors import ReadError
from dualstack_epc.wire.lisp import OURS, TESTS, Cons, HashTable, Types, Vector
from dualstack_epc.wire.patterns import re
from dualstack_epc.wire.printer import DEPTH
from dualstack_epc.wire.raw import check_name, decode, resolve, unescaped

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# The groups of `TOKEN`.
STRING, INTEGER, OPEN, CLOSE, FLOAT, ATOM, ESCAPED, OPEN_VECTOR = range(1, 9)
CLOSE_VECTOR, QUOTE, OPEN_TABLE, RADIX, NAMELESS, COMMENT, END, OTHER = range(9, 17)

# The groups are in the order of their frequency; the last one takes whatever is no token.
# What can go on in an atom.  Of Unicode's blanks only U+00A0 ends one in Emacs.
ESCAPES = 20_000  # in one symbol; the pattern takes 300 bytes of memory for each
_END = r"""[^\x00-\x20\xa0"';()\[\],`\\\#]"""
TOKEN = rf"""
    [\x00-\x20\xa0]*                         # between tokens
    (?: "([^"\\]*)"                          # STRING without escapes
      | ([-+]?[0-9]{{1,4300}}(?!{_END}|\\))   # INTEGER
      | (\()                                 # OPEN
      | (\))                                 # CLOSE
      | ([-+]?[0-9]+\.[0-9]+(?:e[-+]?[0-9]+)?(?!{_END}|\\))  # FLOAT
      | ((?!\?)(?:{_END}|\\.){_END}*(?:\\.{_END}*){{0,{ESCAPES}}}(?!{_END}|\\))  # ATOM
      | (")                                 # ESCAPED: a string with escapes begins
      | (\[)                                 # OPEN_VECTOR
      | (\])                                 # CLOSE_VECTOR
      | ('|`|,@?|\#')                        # QUOTE, in a wide sense
      | (\#s\(hash-table(?=[ \n)]))            # OPEN_TABLE
      | (\#[xXoObB][-+]?[0-9a-fA-F]+|\#[0-9]+r[-+]?[0-9a-zA-Z]+)  # RADIX
      | (\#\#)                               # NAMELESS symbol
      | (;[^\n]*)                            # COMMENT
      | (\Z)                                 # END
      | (.)                                  # OTHER
    )"""
RARE_FLOAT = r"[-+]?(?:[0-9]*\.[0-9]+(?:e[-+]?[0-9]+)?|[0-9]+(?:\.[0-9]*)?e[-+]?[0-9]+)"
SPECIAL_FLOAT = r"([-+]?)(?:[0-9]+\.?[0-9]*|\.[0-9]+)e\+(INF|NaN)"
RARE_INTEGER = r"([-+]?)([0-9]+)\.?"
ESCAPE = r"\\(?:\n|([0-7]{1,3})|x([0-9a-fA-F]+)(?:\\ )?|(.))"
BACKSLASH = r"\\(.)"

SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r",
    "e": "\x1b", "d": "\x7f", "s": " ", " ": "",
}  # fmt: skip
RADIXES = {"x": 16, "o": 8, "b": 2}
QUOTES = {"`": "`", ",": ",", ",@": ",@", "#'": "function"}
OPENERS = {OPEN: "(", OPEN_VECTOR: "[", OPEN_TABLE: "#s(", QUOTE: ""}
CLOSERS = {CLOSE: ")", CLOSE_VECTOR: "]"}
EMPTY = Vector()
PREFIXES = frozenset({"'", *QUOTES})
STAND_IN = "\udfff"  # for a backslash; no valid UTF-8 has it
COLLISIONS = 1000  # keys of a hash table whose hash another has: each is compared with all of them
ATOMS = 10_000  # symbols and floats remembered while one text is read
DECIMAL = 100_000  # digits; converting more would take seconds, and hexadecimal is linear


class _Open:
    """A list, vector, hash table or quote that is being read."""

    __slots__ = ("dot", "items", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind  # "(", "[", "#s(" or a quote
        self.items: list[Any] = []
        self.dot: int | None = None  # the number of items before the dot


def read(  # noqa: C901, PLR0912, PLR0915, one loop is what makes it fast
    text: str, types: Types = OURS, *, raw: bool = False
) -> Any:
    """Return the value that TEXT, one S-expression, stands for; raise `ReadError`.

    TYPES are what symbols, vectors and quoted values become.  RAW means that lone surrogates in
    TEXT are bytes.
    """
    stack: list[_Open] = []
    level = _Open("")
    items = level.items
    atoms: dict[str, Any] = {}
    position = 0
    token = _token()
    while True:
        match = token(text, position)
        if match is None:  # It always matches; this is for the type checker.
            break
        position = match.end()
        kind = match.lastindex
        if kind == STRING:
            items.append(resolve(match[STRING]) if raw else match[STRING])
        elif kind == INTEGER:
            items.append(int(match[INTEGER]))
        elif kind in OPENERS:
            stack.append(level)
            level = _Open(OPENERS[kind] or match[kind])
            items = level.items
            if len(stack) > DEPTH:
                raise ReadError(f"lists are nested deeper than {DEPTH:,}")
            continue
        elif kind in CLOSERS:
            value = _closed(level, CLOSERS[kind], text, position, types)
            level = stack.pop()
            items = level.items
            items.append(value)
        elif kind == FLOAT:
            items.append(float(match[FLOAT]))
        elif kind == ATOM:
            name = match[ATOM]
            if name == "nil":
                items.append([])
            elif name == "." and level.kind == "(" and items and level.dot is None:
                level.dot = len(items)
                continue
            else:
                value = atoms.get(name)
                if value is None:
                    if raw:
                        check_name(name)
                    value = _atom(name, types)
                    if len(atoms) < ATOMS:
                        atoms[name] = value
                items.append(value)
        elif kind == ESCAPED:
            end = _string_end(text, position)
            body = text[position:end]
            items.append(_raw_string(body) if raw else _string(body))
            position = end + 1
        elif kind == COMMENT:
            continue
        elif kind == RADIX:
            items.append(_radix(match[RADIX]))
        elif kind == NAMELESS:
            items.append(types.symbol(""))
        elif kind == END:
            break
        else:
            _refuse(text, match.start(OTHER))
        while level.kind in PREFIXES:
            value = _quoted(level.kind, items[0], types)
            level = stack.pop()
            items = level.items
            items.append(value)
    if stack:
        raise ReadError(f"Not enough closing brackets. {len(stack)} lists do not end")
    if len(items) != 1:
        raise ReadError(f"{len(items)} values where one is expected")
    return items[0]


@lru_cache(1)
def _token() -> Callable[[str, int], re.Match[str] | None]:
    """Return what matches the next token of a text, from a position on."""
    return re.compile(TOKEN, re.VERBOSE | re.DOTALL).match


def decode_value(payload: bytes, types: Types = OURS, *, raw: bool = False) -> Any:
    """Return the value of PAYLOAD, an S-expression in UTF-8, as `read` does.

    RAW means that strings may have bytes that are not UTF-8.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        if raw:
            return read(decode(payload), types, raw=True)
        raise ReadError(
            f"byte {error.start} (0x{payload[error.start]:02x}) is not UTF-8;"
            " bytes cross in a unibyte string, with escapes"
        ) from None
    return read(text, types)


def _atom(name: str, types: Types) -> Any:
    """Return the number or symbol NAME."""
    if name == "t":
        return True
    first = name[0]
    if first in "0123456789.+-" and name[-1] in "0123456789.FN":
        if match := re.fullmatch(RARE_INTEGER, name):
            return _decimal(*match.groups())
        if re.fullmatch(RARE_FLOAT, name):
            return float(name)
        if match := re.fullmatch(SPECIAL_FLOAT, name):
            return float(match.group(1) + match.group(2))
    elif name.endswith("NaN") and (match := re.fullmatch(SPECIAL_FLOAT, name)):
        return float(match.group(1) + match.group(2))
    if name == ".":
        raise ReadError("a dot where no pair can be")
    return types.symbol(re.sub(BACKSLASH, r"\1", name, flags=re.DOTALL) if "\\" in name else name)


def _decimal(sign: str, digits: str) -> int:
    """Return the integer of SIGN and DIGITS, of any number."""
    if len(digits) > DECIMAL:
        raise ReadError(
            f"an integer of {len(digits):,} decimal digits; over {DECIMAL:,} use hexadecimal"
        )
    value = _join_digits(digits)
    return -value if sign == "-" else value


def _join_digits(digits: str) -> int:
    """Return the integer of DIGITS, by halves, as Python converts 4,300 digits at most."""
    if len(digits) <= 4300:  # noqa: PLR2004
        return int(digits)
    low = len(digits) // 2
    return _join_digits(digits[:-low]) * int(10**low) + _join_digits(digits[-low:])


def _radix(token: str) -> int:
    """Return the integer that TOKEN, such as ``#x1F`` or ``#36rZ``, stands for."""
    letter = token[1].lower()
    try:
        if letter in RADIXES:
            return int(token[2:], RADIXES[letter])
        base, digits = token[1:].split("r", 1)
        return int(digits, int(base))
    except ValueError:
        raise ReadError(f"{token[:40]} is no integer") from None


def _string_end(text: str, start: int) -> int:
    """Return where the string ends that begins at START in TEXT; raise `ReadError`."""
    end = start
    while True:
        end = text.find('"', end)
        if end < 0:
            raise ReadError("a string does not end")
        backslash = end
        while backslash > start and text[backslash - 1] == "\\":
            backslash -= 1
        if (end - backslash) % 2 == 0:
            return end
        end += 1


def _string(body: str) -> str | bytes:
    """Return the string with the escapes in BODY resolved.

    It is bytes if an escape stands for a byte over 127, as in a unibyte string of Emacs.
    """
    # The escapes that Emacs and sexpdata write are resolved at the speed of C.
    if STAND_IN not in body:
        text = body.replace("\\\\", STAND_IN).replace('\\"', '"')
        text = text.replace("\\n", "\n").replace("\\t", "\t")
        if "\\" not in text:
            return text.replace(STAND_IN, "\\")
    return _rarely_escaped(body)


def _raw_string(body: str) -> str | bytes:
    """Return what `_string` returns, where lone surrogates in BODY are bytes."""
    value = _string(body.replace("\\\n", "") if "\\\\" not in body else _unbroken(body))
    if isinstance(value, bytes):
        if not body.isascii():
            raise ReadError("a string with both escapes and raw bytes cannot cross")
        return value
    return resolve(value)


def _unbroken(body: str) -> str:
    """Return BODY without the escapes that stand for nothing, where it has backslashes, too."""
    return body.replace("\\\\", STAND_IN).replace("\\\n", "").replace(STAND_IN, "\\\\")


def _rarely_escaped(body: str) -> str | bytes:
    """Return what `_string` returns, where BODY has escapes of any kind."""
    raw = False

    def resolve(match: re.Match[str]) -> str:
        nonlocal raw
        octal, hexadecimal, simple = match.groups()
        if octal or hexadecimal:
            code = int(octal, 8) if octal else int(hexadecimal, 16)
            if (octal and code > 0x7F) or (hexadecimal and 0x80 <= code <= 0xFF):  # noqa: PLR2004
                raw = True
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004
                raise ReadError(f"{match.group()} is no character of Unicode")
            return chr(code)
        if simple is None:
            return ""
        if simple in "uUNCMSHA^":
            raise ReadError(f"the escape \\{simple} in a string is not understood")
        return SIMPLE_ESCAPES.get(simple, simple)

    if (octets := unescaped(body)) is not None:
        return octets
    text = re.sub(ESCAPE, resolve, body, flags=re.DOTALL)
    if not raw:
        return text
    if not body.isascii() or max(text) > "\xff":
        raise ReadError("a string with both characters and raw bytes cannot cross")
    return text.encode("latin-1")


def _closed(level: _Open, bracket: str, text: str, position: int, types: Types) -> Any:
    """Return the value of LEVEL, which BRACKET closes before POSITION in TEXT."""
    kind, items = level.kind, level.items
    if bracket == ")" and kind == "(":
        return items if level.dot is None else _dotted(items, level.dot)
    if bracket == "]" and kind == "[":
        return EMPTY if types is OURS and not items else types.vector(items)
    if bracket == ")" and kind == "#s(":
        return _hash_table(items, types)
    raise ReadError(f"{bracket!r} closes nothing, at {text[max(0, position - 40) : position]!r}")


def _dotted(items: list[Any], dot: int) -> Any:
    """Return the list of ITEMS, whose last one is the tail, after DOT items."""
    if len(items) != dot + 1:
        raise ReadError("more or less than one value after a dot")
    value = items.pop()
    if isinstance(value, list):
        return items + value
    for item in reversed(items):
        value = Cons(item, value)
    return value


def _hash_table(items: list[Any], types: Types) -> HashTable:
    """Return the hash table with the properties ITEMS."""
    settings = {str(key): value for key, value in zip(items[::2], items[1::2], strict=False)}
    data = settings.get("data") or []
    if not isinstance(data, list) or len(data) % 2:
        raise ReadError("a hash table's data are no pairs")
    test = settings.get("test", types.symbol("eql"))
    if not (isinstance(test, types.symbol) and str(test) in TESTS):
        raise ReadError(f"a hash table with the test {describe(test)} cannot cross")
    if settings.get("weakness"):
        raise ReadError("a weak hash table cannot cross")
    keys = data[::2]
    try:
        if len(keys) > COLLISIONS and len(keys) - len(set(map(hash, keys))) > COLLISIONS:
            raise ReadError(
                f"a hash table with over {COLLISIONS:,} keys of the same hash cannot cross"
            )
        table = HashTable(zip(keys, data[1::2], strict=True), test=str(test))
    except TypeError as error:
        raise ReadError(f"a hash table with a list as a key cannot cross: {error}") from None
    if len(table) < len(keys):
        first: dict[Any, Any] = {}
        for key in keys:
            if key in first:
                raise ReadError(
                    f"a hash table with the keys {describe(first[key])} and {describe(key)},"
                    " which Python takes for equal, cannot cross"
                )
            first[key] = key
    return table


def _quoted(kind: str, item: Any, types: Types) -> Any:
    """Return ITEM behind a quote of KIND."""
    return types.quoted(item) if kind == "'" else [types.symbol(QUOTES[kind]), item]


def _refuse(text: str, start: int) -> NoReturn:
    """Raise the error for what is at START in TEXT, which has no meaning outside Emacs."""
    excerpt = text[start : start + 60]
    if excerpt.startswith("#("):
        raise ReadError(
            f"a string with text properties cannot cross: {excerpt};"
            " substring-no-properties drops them"
        )
    if excerpt.startswith("#<"):
        raise ReadError(f"an object that cannot be read: {excerpt}")
    if excerpt.startswith("#s("):
        raise ReadError(f"a record cannot cross: {excerpt}")
    if excerpt.startswith("#"):
        raise ReadError(f"the syntax {excerpt} cannot cross")
    raise ReadError(f"unexpected {excerpt!r}")
