"""Ids from outside: operation ids and stream ids, parsed once and strictly.

An operation id becomes part of a Redis key and of a channel name, so its characters are an
allow-list: no hash tag braces, no glob characters, no white space, nothing that is not ASCII. A
stream id orders entries; compare `StreamId`s, never their texts ("9-0" > "10-0" as text).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NewType

from tidegate.model.errors import InvalidOperationId, InvalidStreamId

OperationId = NewType("OperationId", str)

OPERATION_ID_MAX_LENGTH = 128
OPERATION_ID_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.:@~+=-]*"
_OPERATION_ID = re.compile(OPERATION_ID_PATTERN, re.ASCII)

# Redis keeps each half of a stream id in 64 bits: t_stream.c, streamID.
HALF_MAX = 2**64 - 1
_DIGITS_MAX = len(str(HALF_MAX))
#: Streams came with Redis 5 (October 2018); an id from before that year is not a time.
OLDEST_TIME_MS = 1_514_764_800_000
_STREAM_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?", re.ASCII)


class StreamId(NamedTuple):
    """Position in a stream: milliseconds since the epoch, then a sequence number."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    def before(self) -> StreamId:
        """The greatest id below this one (`0-0` stays `0-0`)."""
        if self.seq:
            return StreamId(self.ms, self.seq - 1)
        return StreamId(self.ms - 1, HALF_MAX) if self.ms else self


#: Before every entry: Redis refuses to add an entry with this id.
ZERO = StreamId(0, 0)


#: The constructor of a named tuple calls this, and takes three times as long.
_made: Final = tuple.__new__


def stream_id(raw: bytes) -> StreamId:
    """An id that Redis wrote; not for input from outside."""
    ms, _, seq = raw.partition(b"-")
    return _made(StreamId, (int(ms), int(seq)))


def is_stream_id(raw: bytes) -> bool:
    """Whether this is an id as Redis writes them, so that `stream_id` may be called."""
    ms, _, seq = raw.partition(b"-")
    return ms.isdigit() and seq.isdigit() and len(ms) <= _DIGITS_MAX and len(seq) <= _DIGITS_MAX


def stream_id_ms(raw: bytes) -> int:
    """The time of an id that Redis wrote, for a third of the cost of the whole id."""
    return int(raw.partition(b"-")[0])


def parse_stream_id(text: str, field: str = "last_event_id") -> StreamId:
    """A stream id from outside, `<ms>-<seq>` or `<ms>`.

    Raises:
        InvalidStreamId: with `field` as the name of the input.
    """
    match = _STREAM_ID.fullmatch(text)
    if match is None:
        raise InvalidStreamId(field, "must look like 1795413516350-0, as in a frame's `id`")
    parsed = StreamId(int(match[1]), int(match[2] or 0))
    if max(parsed) > HALF_MAX:
        raise InvalidStreamId(field, "each half must fit in 64 bits")
    return parsed


def parse_operation_id(text: str) -> OperationId:
    """An operation id from outside.

    Raises:
        InvalidOperationId: for a forbidden length or character.
    """
    if len(text) > OPERATION_ID_MAX_LENGTH or _OPERATION_ID.fullmatch(text) is None:
        raise InvalidOperationId(
            "operation_id",
            f"must be 1 to {OPERATION_ID_MAX_LENGTH} characters of A-Z a-z 0-9 _ . : @ ~ + = -, "
            "starting with a letter, a digit or _",
        )
    return OperationId(text)
