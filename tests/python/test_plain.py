# SPDX-License-Identifier: GPL-3.0-or-later
"""What is quick gives what is slow: plain data, columns, raw bytes; and converters."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import os
import pathlib
import socket
import threading
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualstack_epc.rpc.dispatch import WorkerPool
from dualstack_epc.rpc.peer import Peer, Service
from dualstack_epc.wire import converters, messages, plain, printer, reader
from dualstack_epc.wire.errors import ReadError, SendError
from dualstack_epc.wire.frames import FrameDecoder, encode_frame
from dualstack_epc.wire.lisp import OURS, HashTable, Symbol
from dualstack_epc.wire.raw import escaped, literal
from dualstack_epc.wire.short import SHORT, read_short

ATOMS = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.booleans()
    | st.none()
    | st.sampled_from(
        [Symbol("x"), Symbol("nil-x"), Symbol("t1"), Symbol("e"), "nil", "t", '"', "\\"]
    )
)
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4), max_leaves=20)


PIECES = st.sampled_from(
    [
        *"()\" \t\n\\.;#?['-+:_é\x85\u2028\x00\xa0",
        "nil",
        "t",
        "call",
        "dash-ed",
        "1",
        "007",
        "x1",
        "NaN",
        "1e5",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join) | VALUES.map(printer.to_sexp))
@settings(max_examples=1000)
def test_short_messages_are_what_the_reader_reads(text: str) -> None:
    for payload in (text.encode(), f"({text})\n".encode()):
        value = read_short(payload)
        # Of what is equal, such as 1 and t, the representations differ.
        assert value is None or repr(value) == repr(reader.decode_value(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"(call 3 hello nil) \t\n",
        b'(call 1 dualstack-auth ("0123456789abcdef0123456789abcdef"))\t\n',
        '(return 12 (t nil "你好" 7))\n'.encode(),
    ],
)
def test_short_messages_need_no_reader(payload: bytes) -> None:
    assert len(payload) <= SHORT
    assert repr(read_short(payload)) == repr(reader.decode_value(payload))


@pytest.mark.parametrize("payload", [b"", b"()", b"x", b"(a) b", b'("\xff")', b"((a)", b"(a))"])
def test_what_is_no_list_is_left_to_the_reader(payload: bytes) -> None:
    assert read_short(payload) == ([] if payload == b"()" else None)


@given(st.lists(VALUES, max_size=4))
@settings(max_examples=500)
def test_plain_data_are_read_as_all_data_are(value: Any) -> None:
    try:
        text = printer.to_sexp(value)
        text.encode()
    except (SendError, UnicodeEncodeError):
        return
    if not value:
        return
    expected = reader.read(text)
    with contextlib.suppress(plain.NotPlainError):
        assert repr(plain.read(text.encode())) == repr(expected)


@pytest.mark.parametrize(
    "text",
    [
        "(1 . 2)", "([1])", "(+1)", "(1.)", "(.5)", "(01)", "(- 1)", "(1.0e+INF)", "('x)", "(;)",
        '("a""b")', "(( 1))", "(1  2)", '("\\x41")', '("\\101")', "(nilx)", "(tt)", "(1e)", "(e)",
        "(1", "1)", "(1))", '("a)', "(?a)", "(#x10)", '(#("a" 0 1 (x y)))', "(1\t2)", "(,)", "([)",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_reader(text: str) -> None:
    try:
        value = plain.read(text.encode())
    except plain.NotPlainError:
        return
    assert repr(value) == repr(reader.read(text))


def test_deep_data_are_left_to_the_reader() -> None:
    with pytest.raises(plain.NotPlainError):
        plain.read(b"(" * 500 + b")" * 500)


@pytest.mark.parametrize("head", ["(call 7 echo ({}))", "(return 7 ({}))", "(call 7 t ({}))"])
def test_messages_of_plain_data(head: str) -> None:
    rows = [[number, f"row {number}", [], ["ok", 1.5, True]] for number in range(200)]
    payload = head.format(printer.to_sexp(rows)).encode()
    for margin in (b"\n", b"\t\n"):
        assert (messages._parse_plain(payload + margin, OURS) is None) == ("t (" in head)
        message = messages.parse(payload + margin)
        assert message.uid == 7
        assert message.rest[-1] == [rows]


@given(st.lists(st.lists(ATOMS, min_size=3, max_size=3), min_size=16, max_size=20))
@settings(max_examples=200)
def test_columns_are_printed_as_rows(rows: list[Any]) -> None:
    def slowly(value: Any) -> str:
        inner = (
            slowly(each) if isinstance(each, list) else printer.to_sexp(each) for each in value
        )
        return f"({' '.join(inner)})"

    try:
        expected = slowly(rows)
    except SendError:
        with pytest.raises(SendError):
            printer.to_sexp(rows)
        return
    assert printer.to_sexp(rows) == expected


def test_subclasses_in_columns_are_what_they_are() -> None:
    class Colour(Enum):
        RED = 1

    rows = [[1, Colour.RED, Symbol("x"), True, {"a": 1}] for _ in range(20)]
    assert printer.to_sexp(rows) == "(" + " ".join(["(1 1 x t (:a 1))"] * 20) + ")"


# Bytes


@given(st.binary(max_size=50))
@settings(max_examples=500)
def test_raw_bytes_are_read_as_they_were(value: bytes) -> None:
    expected: Any = value.decode() if value.isascii() else value
    assert reader.decode_value(literal(value), raw=True) == expected
    assert reader.read(escaped(value)) == expected


def test_ten_megabytes_cross() -> None:
    value = os.urandom(10_000_000)
    payload = messages.encode("return", 1, ["ä", value, {"b": value[:2000]}], ours=True)
    assert messages.parse(payload).rest == [["ä", value, [Symbol(":b"), value[:2000]]]]
    with pytest.raises(SendError):
        messages.encode("return", 1, value)


def test_raw_bytes_without_the_margin_are_refused() -> None:
    payload = messages.encode("return", 1, b"\xff" * 2000, ours=True)
    with pytest.raises(ReadError, match="not UTF-8"):
        messages.parse(payload.replace(b"\t\n", b"\n"))
    with pytest.raises(ReadError):
        messages.parse(b'(return 1 "\xc3\xa9\xff")\t\n')
    with pytest.raises(ReadError):
        messages.parse(b"(return 1 x\xff)\t\n")


# Converters


@dataclass
class Point:
    x: int


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pathlib.PurePosixPath("/tmp/ä"), '"/tmp/ä"'),
        (pathlib.PureWindowsPath("C:/x"), '"C:\\\\x"'),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), '"2026-01-02T03:04:05+00:00"'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (dt.time(3, 4, 5), '"03:04:05"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (memoryview(b"a\xff"), '"a\\377"'),
        ({"when": dt.date(2026, 1, 2)}, '(:when "2026-01-02")'),
    ],
)  # fmt: skip
def test_types_of_the_standard_library(value: Any, text: str) -> None:
    assert printer.to_sexp(value) == text
    assert printer.to_sexp([value] * 20) == f"({' '.join([text] * 20)})"


def test_registered_types_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters, "_registered", {})
    converters.register_converter(Point, lambda point: ("point", point.x))
    converters.register_converter(Name, lambda name: Symbol(str(name)))
    converters.register_converter(dt.date, lambda date: date.year)
    converters.register_converter(complex, lambda number: [number.real, number.imag])
    converters.register_converter(Enum, lambda member: member.name)
    colour = Enum("colour", ["RED"])
    values = [Point(1), Name("n"), dt.date(2026, 1, 2), 1 + 2j, colour["RED"]]
    assert printer.to_sexp(values) == '(("point" 1) n 2026 (1.0 2.0) "RED")'


@pytest.mark.parametrize("kind", [str, int, list, dict, HashTable, object, type(None), bytes])
def test_what_crosses_as_itself_cannot_be_converted(kind: type) -> None:
    with pytest.raises(ValueError, match="crosses as it is"):
        converters.register_converter(kind, str)


def test_a_converter_is_a_function_for_a_class() -> None:
    with pytest.raises(TypeError):
        converters.register_converter("Point", str)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        converters.register_converter(Point, "str")  # type: ignore[arg-type]


def test_a_converter_that_leads_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters, "_registered", {})
    converters.register_converter(Point, lambda point: point)
    with pytest.raises(SendError, match="nested deeper"):
        printer.to_sexp(Point(1))


# Writing


class Whole(int):
    pass


class Names(list[str]):
    pass


class Pair(NamedTuple):
    x: int
    y: int


SPECIAL = [
    Name("x"), Whole(3), Names(["a"]), Pair(1, 2), Symbol("x"), {"a": 1}, b"\xff", {1}, float("inf"),
    float("nan"), 10**5000, "9" * 30_000, "\ud800", dt.date(2026, 1, 2), HashTable({"a": 1}),
]  # fmt: skip


@given(st.lists(VALUES, max_size=4), st.none() | st.integers(0, len(SPECIAL) - 1))
@settings(max_examples=150)
def test_what_crosses_as_json_is_what_an_s_expression_brings(
    value: Any, number: int | None
) -> None:
    rows = [*value * 20, *([] if number is None else [[SPECIAL[number]]])]
    text = plain.write_json(rows)
    if text is not None:
        assert "{" not in text
        assert repr(plain.read_json(text.encode())) == repr(reader.read(printer.to_sexp(rows)))
    if number is not None:
        assert text is None


@given(st.lists(st.lists(ATOMS, min_size=2, max_size=3), min_size=1, max_size=20))
@settings(max_examples=100)
def test_what_is_written_quickly_is_what_is_written_slowly(rows: list[Any]) -> None:
    if (text := plain.write(rows)) is not None:
        inner = (f"({' '.join(map(printer.to_sexp, row))})" for row in rows)
        assert text == f"({' '.join(inner)})"


@given(ATOMS | st.lists(VALUES, max_size=7) | st.tuples(ATOMS, ATOMS))
@settings(max_examples=200)
def test_short_values_are_written_at_once_as_all_are(value: Any) -> None:
    if (text := printer.brief(value)) is not None:
        assert text == printer.to_sexp(value)


def test_only_the_usual_types_are_written_at_once() -> None:
    for value in SPECIAL:
        if value != "\ud800":  # That is found when it becomes bytes.
            assert printer.brief(value) is None
            assert printer.brief([1, value]) is None
    for value in ("a", 1, None, False, True, [], (), ["a", 1, None, False, True], ("b",)):
        assert printer.brief(value) == printer.to_sexp(value)


@pytest.mark.parametrize(
    "text", ["x" * 501, '日{}"\\\n\0' * 200, "[]" * 300, "a" * 20_000], ids=["x", "all", "[", "a"]
)
def test_long_strings_are_json(text: str) -> None:
    for value in (text, [1, text]):
        payload = messages.encode("return", 1, value, ours=True, json=True)
        assert payload.startswith(b'["return",1,')
        assert b"{" not in payload
        assert messages.parse(payload).rest == [value]


@pytest.mark.parametrize(
    "text",
    ["x" * 500, "9" * 20_000, Name("x" * 600), b"x" * 600],
    ids=["short", "9", "name", "bytes"],
)
def test_strings_that_are_no_json(text: Any) -> None:
    payload = messages.encode("return", 1, text, ours=True, json=True)
    assert payload == messages.encode("return", 1, text, ours=True)


def test_a_long_string_with_a_lone_surrogate_is_named() -> None:
    with pytest.raises(SendError, match=r"U\+D800"):
        messages.encode("return", 1, "x" * 600 + "\ud800", ours=True, json=True)


@pytest.mark.parametrize("depth", [500, 1500, 3000, 20_000])
def test_deep_lists_are_no_json(depth: int) -> None:
    value: list[Any] = [1] * 20
    for _ in range(depth):
        value = [value] * 2
        del value[0]
    assert plain.write_json([1] * 20 + value) is None
    assert plain.write([1] * 20 + value) is None
    with pytest.raises(ReadError):
        plain.read_json(b"[" * 100_000 + b"]" * 100_000)


def test_a_list_in_itself_is_no_json() -> None:
    value: list[Any] = [1] * 20
    value.append(value)
    assert plain.write_json(value) is None
    assert plain.write(value) is None


@pytest.mark.parametrize(
    "payload",
    [
        b'["return",1,{}]', b'["return",1,NaN]', b'["return",1]', b'["return",1,2,3]', b"[", b"[]",
        b'["return","1",2]', b'["call",1,2,[]]', b'["call",1,"f",1]', b'["return",1,"\xff"]',
        b'["return",1,1] x', b'["return",1,' + b"9" * 5000 + b"]", b'["methods",1]', b"[1]",
    ],
)  # fmt: skip
def test_malformed_json_is_no_message(payload: bytes) -> None:
    with pytest.raises(messages.MalformedError) as caught:
        messages.parse(payload + b"\t\n")
    assert caught.value.uid in (1, None)


def test_json_is_for_those_who_ask_for_it() -> None:
    rows = [[1, "a", None]] * 20
    assert messages.encode("return", 1, rows, ours=True).startswith(b"(return 1 ((1 ")
    payload = messages.encode("return", 1, rows, ours=True, json=True)
    assert payload.startswith(b'["return",1,[[1,"a",null],')
    assert messages.parse(payload).rest == [[[1, "a", []]] * 20]
    assert messages.encode("return", 1, [1, 2], ours=True, json=True) == b"(return 1 (1 2)) \t\n"


class Rows(Service):
    def get_method(self, name: str) -> Any:  # noqa: ARG002, D102
        return lambda: [[1, "a", None]] * 20


def test_a_peer_gets_json_once_it_has_said_that_it_reads_it() -> None:
    ours, theirs = socket.socketpair()
    pool = WorkerPool()
    thread = threading.Thread(target=Peer(ours, Rows(), pool).run)
    thread.start()
    begin = []
    decoder = FrameDecoder()
    with theirs:
        for margin in (b"\n", b" \n", b" \t\n", b"\n"):
            theirs.sendall(encode_frame(b"(call 1 rows ())" + margin))
            payload = None
            while payload is None or payload.startswith(b"(return 0"):
                payload = decoder.next() or decoder.next(theirs.recv(65536))
            begin.append(payload[:8])
    thread.join(10)
    pool.close()
    ours.close()
    assert begin == [b"(return ", b"(return ", b'["return', b'["return']
