# SPDX-License-Identifier: GPL-3.0-or-later
"""The five messages of EPC, as payloads of frames.

``(call UID METHOD ARGS)`` and ``(methods UID)`` ask; ``(return UID VALUE)``, ``(return-error UID
MESSAGE)`` and ``(epc-error UID MESSAGE)`` answer.  A UID is whatever the caller says it is.
"""

from __future__ import annotations

from functools import lru_cache

from dualstack_epc.wire import plain
from dualstack_epc.wire.describe import describe
from dualstack_epc.wire.errors import OversizeError, ReadError, SendError
from dualstack_epc.wire.frames import LIMIT
from dualstack_epc.wire.lisp import OURS, Symbol, Types
from dualstack_epc.wire.patterns import re
from dualstack_epc.wire.printer import brief, encode_value, utf8
from dualstack_epc.wire.reader import decode_value
from dualstack_epc.wire.short import SHORT, read_short

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REQUESTS = frozenset({"call", "methods"})
REPLIES = frozenset({"return", "return-error", "epc-error"})
PLAIN_HEAD = rb"\((?:return ([0-9]{1,300}) |call ([0-9]{1,300}) (?!nil |t )([a-z][a-z0-9_-]*) )"
# Blanks at the end of a payload, which other peers skip: it is from an end that knows the methods
# `dualstack-cancel' and `dualstack-progress', and bytes as `raw' has them.
MARGIN = b"\t\n"
PROGRESS_MARGIN = b"\t\t\n"  # and wants to be told of progress
JSON_MARGINS = (b" \t\n", b" \t\t\n")  # and reads JSON, as `plain` writes it
OWN_MARGIN = b" \t\n"
OWN_MARGIN_TEXT = OWN_MARGIN.decode()
COUNTED = 1 << 62  # UIDs below are those of ends that count
MESSAGE_LIMIT = 10_000  # characters of an error's message that are sent
JSON_HEAD = rb'\["([a-z-]{1,20})",([0-9]{1,300})[\],]'
HEAD = rb"\s*\(\s*([a-z-]{1,20})\s+([0-9]{1,300})(?=[\s)])"


class Message:
    """A message: its `name`, its `uid` and the list `rest` of the values after that."""

    __slots__ = ("name", "rest", "uid")

    def __init__(self, name: str, uid: Any, rest: list[Any]) -> None:
        """Make the message."""
        self.name = name
        self.uid = uid
        self.rest = rest


class MalformedError(ReadError):
    """A payload is no message.  `name` and `uid` are what could be made out of it, or None."""

    def __init__(self, reason: str, name: str | None, uid: Any) -> None:
        """Take the REASON and what is known of the message."""
        super().__init__(reason)
        self.name = name
        self.uid = uid


def parse(payload: bytes, types: Types = OURS) -> Message:
    """Return the message in PAYLOAD, with values of TYPES; raise `MalformedError`."""
    if payload.startswith(b"["):
        return _parse_json(payload, types)
    if plain.worthwhile(payload) and (message := _parse_plain(payload, types)):
        return message
    value = read_short(payload, types) if len(payload) <= SHORT else None
    try:
        if value is None:
            value = decode_value(payload, types, raw=payload.endswith(MARGIN))
    except ReadError as error:
        raise MalformedError(str(error), *_salvage(payload)) from error
    except (RecursionError, MemoryError) as error:
        # Such as of the hash of a key that is nested deep.
        reason = f"too deep or too large: {type(error).__name__}"
        raise MalformedError(reason, *_salvage(payload)) from None
    except ValueError as error:  # The user has Python take fewer digits than usual.
        raise MalformedError(str(error), *_salvage(payload)) from None
    if not (isinstance(value, list) and value and isinstance(value[0], types.symbol)):
        raise MalformedError(f"no message: {describe(value)}", None, None)
    name = str(value[0])
    if len(value) == 1:
        raise MalformedError(f"a {name} message without a UID", name, None)
    if name not in REQUESTS and name not in REPLIES:
        raise MalformedError(f"unknown message {describe(name)}", name, value[1])
    return Message(name, value[1], value[2:])


def _parse_plain(payload: bytes, types: Types) -> Message | None:
    """Return the message in PAYLOAD if it is a call or a value of plain data only, else None."""
    head = _plain_head()(payload)
    if head is None:
        return None
    try:
        rest = plain.read(b"(" + payload[head.end() :])
    except plain.NotPlainError:
        return None
    returned, called, method = head.groups()
    if method is None:
        return Message("return", int(returned), rest)
    return Message("call", int(called), [types.symbol(method.decode()), *rest])


def _parse_json(payload: bytes, types: Types) -> Message:
    """Return the message in PAYLOAD, which is JSON; raise `MalformedError`."""
    try:
        match plain.read_json(payload):
            case ["return", int(uid), value]:
                return Message("return", uid, [value])
            case ["call", int(uid), str(method), list(args)]:
                return Message("call", uid, [types.symbol(method), args])
    except ReadError as error:
        raise MalformedError(str(error), *_salvage(payload)) from error
    raise MalformedError("JSON that is no message", *_salvage(payload))


@lru_cache(1)
def _plain_head() -> Callable[[bytes], re.Match[bytes] | None]:
    """Return what looks for the beginning of a message whose values may be plain."""
    return re.compile(PLAIN_HEAD).match


def _salvage(payload: bytes) -> tuple[str | None, int | None]:
    """Return the name and UID of the message that PAYLOAD begins with, as far as they are there."""
    match = re.match(HEAD, payload) or re.match(JSON_HEAD, payload)
    return (match[1].decode(), int(match[2])) if match else (None, None)


def encode(name: str, uid: Any, *rest: Any, ours: bool = False, json: bool = False) -> bytes:
    """Return the payload of a message; raise `SendError` if a value cannot cross.

    OURS is whether the reader is of this package, or dualstack in Emacs; JSON whether it reads that
    as well.
    """
    margin = OWN_MARGIN_TEXT if ours else "\n"
    if len(rest) == 1 and type(uid) is int and 0 <= uid < COUNTED:
        if (short := brief(rest[0])) is not None:
            return utf8(f"({name} {uid} {short}){margin}")
        text = plain.write_json(rest[0]) if json and name == "return" else None
        if text is not None:
            payload = utf8(f'["return",{uid},{text}]{margin}')
        else:
            before, after = f"({name} {uid} ", f"){margin}"
            payload = encode_value(rest[0], raw=ours, before=before, after=after)
    else:
        payload = encode_value([Symbol(name), uid, *rest], raw=ours, after=margin)
    if len(payload) > LIMIT:
        raise OversizeError(f"a message of {len(payload):,} bytes; the protocol allows {LIMIT:,}")
    return payload


def encode_error(name: str, uid: Any, reason: str) -> bytes:
    """Return the payload of an error reply, whatever REASON has in it."""
    reason = str.__str__(reason)  # It may be of a subclass, with methods of its own.
    if len(reason) > MESSAGE_LIMIT:
        reason = reason[:MESSAGE_LIMIT] + "..."
    reason = reason.encode("utf-8", "backslashreplace").decode()
    try:
        return encode(name, uid, reason)
    except SendError:
        return encode(name, None, reason)
