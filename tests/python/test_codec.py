# SPDX-License-Identifier: GPL-3.0-or-later
"""Values to S-expressions and back, without a socket."""

from __future__ import annotations

import copy
import enum
import math
import random
import statistics
import subprocess
import sys
import time
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sexpdata
from hypothesis import given
from hypothesis import strategies as st

from dualstack_epc.wire.describe import describe
from dualstack_epc.wire.errors import OversizeError, ReadError, SendError
from dualstack_epc.wire.lisp import Cons, HashTable, Quoted, Symbol, Vector
from dualstack_epc.wire.messages import MalformedError, parse
from dualstack_epc.wire.printer import DEPTH, encode_value, to_sexp
from dualstack_epc.wire.reader import decode_value, read

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = namedtuple("Pair", "left right")  # noqa: PYI024, the untyped kind is what is sent


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    y: int


class Own:
    def __to_lisp_as__(self) -> list[int]:
        return [1, 2]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


TO_LISP = [
    (None, "nil"), (False, "nil"), (True, "t"), ([], "nil"), ((), "nil"), ({}, "nil"), (set(), "nil"),
    (0, "0"), (-5, "-5"), (10**30, "1" + "0" * 30), (1.5, "1.5"), (1e100, "1e+100"), (-0.0, "-0.0"),
    (math.inf, "1.0e+INF"), (-math.inf, "-1.0e+INF"), (math.nan, "0.0e+NaN"),
    ("", '""'), ('a"b\\c\n', '"a\\"b\\\\c\n"'), ("a\0b", '"a\0b"'), ("日本 🎉", '"日本 🎉"'),
    (b"", '""'), (b'a\xff"\\\n', '"a\\377\\"\\\\\\012"'), (bytearray(b"x"), '"x"'),
    (Symbol("a-b"), "a-b"), (Symbol(":key"), ":key"), (Symbol("nil"), "nil"), (Symbol(""), "##"),
    (Symbol("a b"), "a\\ b"), (Symbol("12"), "\\12"), (Symbol("-1.5e3"), "\\-1\\.5e3"), (Symbol("."), "\\."),
    (Symbol("?a"), "\\?a"), (Symbol("a#b"), "a\\#b"), (Symbol("it's"), "it\\'s"), (Symbol("ä"), "ä"),
    ([1, "a", [2]], '(1 "a" (2))'), ((1, 2), "(1 2)"), (list(range(20)), f"({' '.join(map(str, range(20)))})"),
    (Vector([1, Symbol("x")]), "[1 x]"), (Vector([]), "[]"),
    (Quoted(Symbol("x")), "'x"), (Cons(1, 2), "(1 . 2)"), (Cons(1, Cons(2, 3)), "(1 2 . 3)"),
    (Cons(1, [2, 3]), "(1 2 3)"), (Cons(1, None), "(1)"), ([1, Symbol("."), 2], "(1 \\. 2)"),
    ({"a": 1, ":b": [2]}, "(:a 1 :b (2))"), (OrderedDict(a=1), "(:a 1)"), ({Symbol("k k"): 1}, "(:k\\ k 1)"),
    (HashTable({"a": 1}, test="equal"), '#s(hash-table test equal data ("a" 1))'),
    (Pair(1, "r"), '(:left 1 :right "r")'), (Point(1, 2), "(:x 1 :y 2)"), (Color.RED, '"red"'), (Level.HIGH, "3"),
    ({7}, "(7)"), (frozenset([7]), "(7)"), (range(3), "(0 1 2)"), ((i for i in [1]), "(1)"), (Own(), "(1 2)"),
    ([None, True, 1.0, "x"] * 5, "(" + " ".join(['nil t 1.0 "x"'] * 5) + ")"),
    (['quote"d'] * 20, "(" + " ".join(['"quote\\"d"'] * 20) + ")"),
    ([math.inf] * 20, "(" + " ".join(["1.0e+INF"] * 20) + ")"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), TO_LISP)
def test_what_python_values_become(value: Any, text: str) -> None:
    assert to_sexp(value) == text


FROM_LISP = [
    ("nil", []), ("()", []), ("t", True), ("0", 0), ("+5", 5), ("-5", -5), ("5.", 5), ("1.5", 1.5), ("1e3", 1000.0),
    (".5", 0.5), ("1.0e+INF", math.inf), ("-1.0e+INF", -math.inf), ("#x1F", 31), ("#b-101", -5), ("#36rZ", 35),
    ("1_000", Symbol("1_000")), ("inf", Symbol("inf")), ("nan", Symbol("nan")), ("infinity", Symbol("infinity")),
    ("1+", Symbol("1+")), ("-", Symbol("-")), ("\\12", Symbol("12")), ("a\\ b", Symbol("a b")), ("##", Symbol("")),
    (":key", Symbol(":key")), ("\\,", Symbol(",")), ("1e", Symbol("1e")), ("e+INF", Symbol("e+INF")),
    ('""', ""), ('"a\\"b\\\\c"', 'a"b\\c'), ('"a\\nb\\tc"', "a\nb\tc"), ('"a\\\nb"', "ab"), ('"\\x3bb\\ x"', "λx"),
    ('"\\e\\s\\d"', "\x1b \x7f"), ('"\0"', "\0"), ('"\\303\\244"', b"\xc3\xa4"), ('"\\101"', "A"), ('"日"', "日"),
    ("(1 (2 (3)) nil)", [1, [2, [3]], []]), ("(a . b)", Cons(Symbol("a"), Symbol("b"))), ("(1 . (2 3))", [1, 2, 3]),
    ("(1 . nil)", [1]), ("(1 2 . 3)", Cons(1, Cons(2, 3))), ("((a . 1) (b . 2))", [Cons(Symbol("a"), 1), Cons(Symbol("b"), 2)]),
    ("[1 [2] nil]", Vector([1, Vector([2]), []])), ("'x", Quoted(Symbol("x"))), ("#'f", [Symbol("function"), Symbol("f")]),
    ("(`a ,b ,@c)", [[Symbol("`"), Symbol("a")], [Symbol(","), Symbol("b")], [Symbol(",@"), Symbol("c")]]),
    (" ( 1;x\n 2 ) ", [1, 2]), ('(1"a"2)', [1, "a", 2]), ("(:a 1 :b 2)", [Symbol(":a"), 1, Symbol(":b"), 2]),
    ('#s(hash-table size 3 test equal rehash-size 1.5 rehash-threshold 0.8 data (a 1 "b" (2)))', {Symbol("a"): 1, "b": [2]}),
    ("#s(hash-table)", {}), ("(''x)", [Quoted(Quoted(Symbol("x")))]), ("(a.b 1.e3)", [Symbol("a.b"), 1000.0]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), FROM_LISP)
def test_what_lisp_values_become(text: str, value: Any) -> None:
    result = read(text)
    assert result == value
    assert type(result) is type(value) or isinstance(value, dict)


def test_pairs_are_values() -> None:
    pair = Cons(1, Cons("a", 2))
    assert pair == Cons(1, Cons("a", 2)) != Cons(1, 2)
    assert len({pair, Cons(1, Cons("a", 2)), Cons(2, 1)}) == 2
    assert copy.deepcopy(pair) == pair
    assert eval(repr(pair)) == pair
    with pytest.raises(AttributeError, match="does not change: car"):
        pair.car = 2
    match pair:
        case Cons(car, Cons(_, last)):
            assert (car, last) == (1, 2)
        case _:
            pytest.fail("no match")


def test_a_hash_table_keeps_its_test() -> None:
    table = read("#s(hash-table test eq data (a 1))")
    assert isinstance(table, HashTable)
    assert to_sexp(table) == "#s(hash-table test eq data (a 1))"


def test_nan_keeps_its_sign() -> None:
    assert math.copysign(1, read("-0.0e+NaN")) == -1
    assert math.isnan(read("0.0e+NaN"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('#("s" 0 1 (face bold))', "text properties"), ("(1 #<buffer *scratch*>)", "#<buffer"), ("#s(point 1 2)", "record"),
        ("#1=(a . #1#)", "#1="), ("#[1 2]", "#["), ('#&5"x"', "#&"), ("?a", "unexpected"), ("(1 2", "Not enough closing"),
        (")", "closes nothing"), ("(1]", "closes nothing"), ("[1)", "closes nothing"), ('"abc', "does not end"), ("", "0 values"),
        ("1 2", "2 values"), ("(1 . 2 3)", "after a dot"), ("(1 . )", "after a dot"), ("(. 1)", "dot"), (".", "dot"), ("'", "closing"),
        ('"é\\377"', "raw bytes"), ('"\\xd800"', "no character"), ('"\\x110000"', "no character"), ('"\\C-a"', "escape"),
        ('"\\u00e4"', "escape"), ("#2r9", "no integer"), ("#99r1", "no integer"), ("#s(hash-table data (a))", "pairs"),
        ("#s(hash-table data ((1) 2))", "key"), ('"\\', "does not end"), ("a\\", "unexpected"), ("#", "cannot cross"),
        ("1" * 100_001, "decimal digits"), ("[1 . 2]", "dot"),
    ],
)  # fmt: skip
def test_what_cannot_cross_from_lisp_is_named(text: str, reason: str) -> None:
    with pytest.raises(ReadError) as caught:
        read(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "object"), ([1, {"a": object()}], "object"), ({1: 2}, "int 1 as a key"), (1j, "complex"), (len, "builtin"),
        (Point, "type"), ("\ud800", "U+D800"), (Symbol("\udfff"), "U+DFFF"), (Hostile(), "its repr fails"), (iter(int, 1), "more items"),
    ],
)  # fmt: skip
def test_what_cannot_cross_from_python_is_named(value: Any, reason: str) -> None:
    with pytest.raises(SendError) as caught:
        encode_value(value)
    assert reason in str(caught.value)


def nested(depth: int, inner: Any = 0) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


def test_depth_is_limited_both_ways_and_not_by_recursion() -> None:
    text = to_sexp(nested(DEPTH))
    assert to_sexp(read(text)) == text
    with pytest.raises(SendError, match="nested deeper than 1,000"):
        to_sexp(nested(DEPTH + 1))
    with pytest.raises(ReadError, match="nested deeper than 1,000"):
        read(f"({text})")
    for opening in ["(", "[", "'", "#s(hash-table data ("]:
        with pytest.raises(ReadError, match="nested deeper than 1,000"):
            read(opening * 100_000)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SendError, match="nested deeper"):
        to_sexp(loop)


def test_integers_of_any_size_cross() -> None:
    for value in [10**4299, 10**4300, -(10**4300), 7**20_000, 1 << 1_000_000]:
        assert read(to_sexp(value)) == value
        assert read(to_sexp([value] * 20)) == [value] * 20
    digits = "123456789" * 1000
    assert read(digits) % 10**18 == int("123456789" * 2)
    assert read("-" + digits) == -read(digits)


SCALARS = (
    st.booleans().filter(bool)
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.text(st.characters(exclude_categories=["Cs"]))
    .filter(lambda s: s not in {"nil", "t"})
    .map(Symbol)
    | st.text(st.sampled_from("0123456789+-.eINFa\\ \"'#;?`,()[]")).map(Symbol)
    | st.binary(min_size=1).filter(lambda b: max(b) > 127)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(Vector)
        | inner.map(Quoted)
        | st.builds(Cons, inner, SCALARS)
        | st.dictionaries(
            st.integers() | st.text(st.characters(exclude_categories=["Cs"])), inner
        ).map(HashTable)
    ),
    max_leaves=30,
)


@given(VALUES)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert decode_value(encode_value(value)) == value


@given(st.text())
def test_any_text_is_a_value_or_the_one_error(text: str) -> None:
    try:
        value = read(text)
    except ReadError:
        return
    again = to_sexp(value)
    assert to_sexp(read(again)) == again


@given(st.binary())
def test_any_bytes_are_a_value_or_the_one_error(data: bytes) -> None:
    try:
        decode_value(data)
    except ReadError:
        return


def test_mutilated_expressions_are_a_value_or_the_one_error() -> None:
    rng = random.Random(2)
    alphabet = "()[]'\"\\ .;#s`,?0159-+eINF\nabtnil"
    for _ in range(30_000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(30)))
        try:
            value = read(text)
        except ReadError:
            continue
        again = to_sexp(value)
        assert to_sexp(read(again)) == again


# Windows counts processor time in ticks of 16 ms: what is measured there takes at least ten.
LEAST = 0.16 if sys.platform == "win32" else 0.0


def seconds(function: Callable[[Any], Any], argument: Any, rounds: int = 5) -> float:
    """Return the least of several processor times of FUNCTION for ARGUMENT, in seconds."""
    return min(seconds_once(function, argument) for _ in range(rounds))


def seconds_once(function: Callable[[Any], Any], argument: Any) -> float:
    """Return the processor time of FUNCTION for ARGUMENT, in seconds."""
    start = time.thread_time()
    calls = passed = 0.0
    while not calls or passed < LEAST:
        function(argument)
        calls += 1
        passed = time.thread_time() - start
    return passed / calls


def times_as_fast(
    ours: Callable[[Any], Any], theirs: Callable[[Any], Any], argument: Any, rounds: int = 20
) -> float:
    """Return how many times as fast as THEIRS the function OURS is for ARGUMENT.

    They take turns: a machine that is busy for a while is so for both.
    """
    pairs = [(seconds_once(ours, argument), seconds_once(theirs, argument)) for _ in range(rounds)]
    return min(theirs for _, theirs in pairs) / min(ours for ours, _ in pairs)


def rows(count: int) -> list[Any]:
    return [[i, f"row {i}", [Symbol("ok"), f"c{i}"], i * 1.5] for i in range(count)]


def test_the_encoder_is_faster_than_sexpdata() -> None:
    value = rows(3000)
    assert times_as_fast(to_sexp, sexpdata.dumps, value) > 4  # It is 5 to 8.


def test_the_decoder_is_no_slower_than_sexpdata() -> None:
    text = sexpdata.dumps(rows(3000))
    assert times_as_fast(read, sexpdata.loads, text) > 1


@pytest.mark.parametrize(
    "piece",
    [
        '"x" ',
        "12 ",
        "a ",
        "(1) ",
        "[] ",
        "'x ",
        '"\\n\\"" ',
        '"\\303" ',
        "1.5 ",
        ":k\\ k ",
        "(a . 1) ",
        ";\n",
    ],
)
def test_reading_is_linear(piece: str) -> None:
    def per_byte(size: int) -> float:
        text = "(" + piece * (size // len(piece)) + ")"
        return seconds(read, text, 2) / len(text)

    ratio = statistics.median(per_byte(400_000) / per_byte(40_000) for _ in range(3))
    assert ratio < 4


def test_16_mb_are_read() -> None:
    value = rows(360_000)
    payload = encode_value(value)
    assert 14_000_000 < len(payload) < 16_777_216
    assert decode_value(payload) == value


def test_16_mb_in_one_string() -> None:
    text = "x" * 8_000_000 + '\\"\n' * 2_000_000
    assert read(to_sexp(text)) == text


def test_a_long_digit_string_is_no_trap() -> None:
    with pytest.raises(ReadError):
        read("1" * 16_000_000)
    assert isinstance(read("1" * 16_000_000 + "a"), Symbol)


def test_oversize_is_a_send_error() -> None:
    assert issubclass(OversizeError, SendError)


@pytest.mark.parametrize(
    "text",
    [
        "#s(hash-table test eql data (1 a 1.0 b))",
        "#s(hash-table test equal data (1 a t b))",
        "#s(hash-table data (0.0 a -0.0 b))",
        '#s(hash-table test eq data ("a" 1 "a" 2))',
        "#s(hash-table test foo data ())",
        '#s(hash-table test "eq) (" data ())',
        "#s(hash-table test eq weakness key data ())",
    ],
)
def test_hash_tables_that_would_lose_something_are_refused(text: str) -> None:
    with pytest.raises(ReadError, match="cannot cross"):
        read(text)


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, ":a": 2},
        HashTable({None: 1, False: 2}),
        HashTable({"a": 1, b"a": 2}),
        HashTable({float("nan"): 1, float("nan"): 2}),
        HashTable({1: 1}, test="foo"),
        HashTable({1: 1}, test="eq data (1 2)) #("),
        HashTable({1: 1}, test=None),  # type: ignore[arg-type]
        {"a": [{":b": 1, "b": 2}]},
    ],
)
def test_values_that_would_lose_something_are_refused(value: Any) -> None:
    with pytest.raises(SendError, match="cannot be sent"):
        to_sexp(value)


@pytest.mark.parametrize("blank", "\x85\u1680\u2000\u2028\u2029\u3000\u200b")
def test_symbols_with_blanks_that_emacs_prints_bare_cross(blank: str) -> None:
    assert read(f"(a{blank}b {blank})") == [Symbol(f"a{blank}b"), Symbol(blank)]
    assert read(to_sexp([Symbol(f"a{blank}b")])) == [Symbol(f"a{blank}b")]


def test_what_emacs_takes_for_blank_is_blank() -> None:
    assert read("(a\xa0b\x0bc\x1fd\x00e)") == [Symbol(name) for name in "abcde"]


def test_long_names_are_not_remembered() -> None:
    from dualstack_epc.wire import printer  # noqa: PLC0415

    for cache in (printer._short_symbol, printer._short_keyword):
        before = cache.cache_info().currsize
        for number in range(100):
            to_sexp([Symbol("x" * 1000 + str(number)), {"y" * 1000 + str(number): 1}])
        assert cache.cache_info().currsize == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize(
    ("piece", "ends"), [(b"[]" * 2, b"()"), (rb"\a" * 2, b"()"), (rb"\377", b'""')]
)
def test_4_mb_of_what_is_small_take_little_memory(piece: bytes, ends: bytes) -> None:
    # `ru_maxrss` would count what the process was before it ran this program.
    code = (
        "from dualstack_epc.wire.reader import ReadError, decode_value\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        f"before = peak()\ntry: decode_value({ends[:1]!r} + {piece!r} * 1_000_000 + {ends[1:]!r})\n"
        "except ReadError: pass\n"
        "print((peak() - before) / 1024)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 80  # MB


def test_a_symbol_may_have_20_000_escapes() -> None:
    assert read("\\ " * 20_000) == Symbol(" " * 20_000)
    with pytest.raises(ReadError):
        read("\\ " * 100_000)


def test_hash_tables_with_keys_of_one_hash_are_refused() -> None:
    keys = [number * sys.hash_info.modulus for number in range(1, 5000)]
    with pytest.raises(ReadError, match="of the same hash cannot cross"):
        read(f"#s(hash-table data ({' '.join(f'{key} 1' for key in keys)}))")
    others = range(100_000)
    assert len(read(f"#s(hash-table data ({' '.join(f'{key} 1' for key in others)}))")) == 100_000


def test_a_description_looks_at_a_few_items_only() -> None:
    looked = 0

    class Item:
        def __repr__(self) -> str:
            nonlocal looked
            looked += 1
            return "x"

    items = [Item() for _ in range(1000)]
    for value in [
        items,
        Vector(items),
        [[Vector(items)]],
        HashTable(enumerate(items)),
        Quoted(items),
    ]:
        assert len(describe(value)) < 120
    assert describe(Vector([1, 2])) == "Vector Vector([1, 2])"
    assert describe(Cons(1, Quoted("a"))) == "Cons Cons(1, Quoted('a'))"
    assert looked <= 5 * 51


def test_a_description_of_a_hostile_class() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError

    class Hostile(metaclass=Meta):
        def __repr__(self) -> str:
            raise RuntimeError

    assert describe(Hostile()) == "Hostile (its repr fails)"


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="new in Python 3.11")
def test_an_integer_of_more_digits_than_python_was_told_to_take_is_an_error() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(MalformedError, match="limit") as caught:
            parse(b"(call 7 echo (" + b"9" * 1000 + b"))\n")
        assert (caught.value.name, caught.value.uid) == ("call", 7)
    finally:
        sys.set_int_max_str_digits(before)
