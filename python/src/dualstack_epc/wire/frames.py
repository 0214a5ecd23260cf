# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: how payloads follow each other in a stream of bytes.

A frame is six lower-case hexadecimal digits, the payload's length in bytes, and the payload.  This
module knows no socket: bytes go in and payloads come out, however the bytes are cut.
"""

from __future__ import annotations

from dualstack_epc.wire.errors import FrameError, OversizeError

HEADER = 6
LIMIT = 0xFFFFFF  # bytes of payload that six digits can tell
DIGITS = b"0123456789abcdef"


def encode_frame(payload: bytes) -> bytes:
    """Return PAYLOAD as a frame; raise `OversizeError` if it is over 16,777,215 bytes."""
    if len(payload) > LIMIT:
        raise OversizeError(f"{len(payload):,} bytes are more than a frame can hold, {LIMIT:,}")
    return b"%06x%b" % (len(payload), payload)


class FrameDecoder:
    """Takes bytes and gives payloads.

    After a malformed header nothing more is given, and `error` says what was wrong with it.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        """Refuse payloads of more than LIMIT bytes; the attribute `limit` can be set later."""
        self.limit = limit
        self.error: FrameError | None = None
        self._buffer = bytearray()
        self._length: int | None = None  # of the payload that the buffer begins with

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that DATA completes."""
        payloads = []
        payload = self.next(data)
        while payload is not None:
            payloads.append(payload)
            payload = self.next()
        return payloads

    def next(self, data: bytes = b"") -> bytes | None:
        """Return the next payload, of what came before and DATA, or None if there is none yet.

        What follows it waits for the next call, when the limit may be another.
        """
        buffer = self._buffer
        if not buffer:
            if not data:
                return None
            if (payload := self._whole(data)) is not None:
                return payload
        elif self.error:
            return None
        buffer += data
        if self._length is None:
            if (length := self._header()) is None:
                return None
            self._length = length
            del buffer[:HEADER]
        if len(buffer) < self._length:
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[: self._length])
        del buffer[: self._length]
        self._length = None
        return payload

    def _whole(self, data: bytes) -> bytes | None:
        """Return the payload of DATA if that is one frame, which most small messages are."""
        header = data[:HEADER]
        if self._length is None and len(header) == HEADER and not header.strip(DIGITS):
            length = int(header, 16)
            if length + HEADER == len(data) and length <= self.limit:
                return data[HEADER:]
        return None

    def _header(self) -> int | None:
        """Return the length that the header tells, or None if there is none yet.

        A wrong digit is an error as soon as it is there: the rest of the header may never come.
        """
        header = self._buffer[:HEADER]
        if header.strip(DIGITS):
            # Of later bytes nothing is said, for they may not be there yet.
            wrong = next(i for i, byte in enumerate(header) if byte not in DIGITS)
            self.error = FrameError(
                f"no EPC: {bytes(header[: wrong + 1])!r} is no length in hexadecimal digits"
            )
        elif len(header) == HEADER:
            length = int(header, 16)
            if length <= self.limit:
                return length
            self.error = FrameError(f"a frame of {length:,} bytes, {self.limit:,} are allowed")
        return None

    @property
    def missing(self) -> int:
        """The number of bytes that the payload which has begun still needs."""
        return 0 if self._length is None else max(0, self._length - len(self._buffer))

    @property
    def partial(self) -> int:
        """The number of bytes that wait for the rest of their frame."""
        return len(self._buffer) + (0 if self._length is None else HEADER)
