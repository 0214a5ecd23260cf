# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames, without a socket."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstack_epc.wire.errors import OversizeError
from dualstack_epc.wire.frames import LIMIT, FrameDecoder, encode_frame


def decode(chunks: list[bytes]) -> tuple[list[bytes], str | None, int]:
    """Return what comes of CHUNKS: payloads, the error, and the bytes left over."""
    decoder = FrameDecoder()
    payloads = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return payloads, str(decoder.error) if decoder.error else None, decoder.partial


@given(st.lists(st.binary(max_size=100)), st.randoms())
def test_payloads_arrive_however_they_are_cut(payloads: list[bytes], rng: random.Random) -> None:
    stream = b"".join(map(encode_frame, payloads))
    cuts = sorted(rng.sample(range(len(stream) + 1), min(5, len(stream))))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(chunks) == (payloads, None, 0)


@given(st.lists(st.binary(max_size=20).map(encode_frame) | st.binary(max_size=12)))
def test_whole_and_byte_by_byte_give_the_same(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    whole = decode([stream])
    single = decode([bytes([byte]) for byte in stream])
    assert whole[0] == single[0]
    if whole[1]:
        assert single[1]
    else:
        assert whole == single


@pytest.mark.parametrize(
    "header",
    [
        b"-00001",
        b"0x000f",
        b"0_0010",
        b" 00010",
        b"+00010",
        b"00001G",
        b"00000A",
        b"GET / ",
        b"\x16\x03\x01",
    ],
)
def test_a_header_of_other_digits_is_refused(header: bytes) -> None:
    payloads, error, _ = decode([encode_frame(b"first"), header, encode_frame(b"later")])
    assert payloads == [b"first"]
    assert error is not None
    assert error.startswith("no EPC: ")


def test_a_wrong_digit_is_refused_before_the_header_is_whole() -> None:
    assert decode([b"G"])[1] is not None


def test_the_limit_is_that_of_six_digits() -> None:
    payload = bytes(LIMIT)
    assert decode([encode_frame(payload)])[0] == [payload]
    with pytest.raises(OversizeError, match="16,777,216 bytes"):
        encode_frame(bytes(LIMIT + 1))


def test_a_lower_limit_counts_before_the_payload_is_there() -> None:
    decoder = FrameDecoder(limit=10)
    assert decoder.feed(b"00000b") == []
    assert "11 bytes" in str(decoder.error)


def test_nothing_is_kept_after_an_error() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"nonsense")
    for _ in range(10):
        decoder.feed(bytes(1000))
    assert decoder.partial < 100


def test_raw_bytes_give_valid_frames_or_the_one_error() -> None:
    rng = random.Random(1)
    for _ in range(100_000):
        stream = bytearray()
        for _ in range(rng.randrange(4)):
            stream += encode_frame(rng.randbytes(rng.randrange(20)))
        if stream and rng.random() < 0.7:
            stream[rng.randrange(len(stream))] = rng.randrange(256)
        data = bytes(stream) + rng.randbytes(rng.randrange(8))
        decoder = FrameDecoder()
        payloads = decoder.feed(data)
        consumed = b"".join(map(encode_frame, payloads))
        assert data.startswith(consumed)
        rest = data[len(consumed) :]
        if decoder.error is None:
            # What is left is the beginning of a frame.
            assert not rest[:6].strip(b"0123456789abcdef")
            assert len(rest) < 6 or len(rest) < 6 + int(rest[:6], 16)
        else:
            assert rest[:6].strip(b"0123456789abcdef")
