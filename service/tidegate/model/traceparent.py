"""`traceparent` (W3C Trace Context): which trace an entry or a request belongs to.

It comes from outside, so everything that is not exactly what the standard allows is as good as
absent: nobody is refused for it and nothing is logged. `tracestate` is not carried on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tidegate.model.entries import RawEntry

FIELD = b"traceparent"
_IN_JSON = b'"traceparent"'
#: A later version may say more behind the flags; what is longer than this is no header.
MAX_BYTES = 128
#: Section 3.2: version, trace id, parent id, flags. Version ff is invalid; 00 ends with the flags.
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x20-\x7e]*)?")
_SAMPLED = 1


class TraceParent(NamedTuple):
    """The span that caused something: its trace (128 bits), itself (64 bits), and whether the trace
    is recorded.
    """

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


class _TraceMessage(msgspec.Struct):
    traceparent: str = ""


_decode_message = msgspec.json.Decoder(_TraceMessage).decode


def parse_traceparent(raw: bytes) -> TraceParent | None:
    """None for everything that the standard does not allow."""
    if len(raw) > MAX_BYTES:
        return None
    match = _FORM.fullmatch(raw)
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not span_id:
        return None
    return TraceParent(trace_id, span_id, bool(int(match[4], 16) & _SAMPLED))


def traceparent_of(raw: RawEntry) -> TraceParent | None:
    """Of an entry: its field `traceparent`, else `traceparent` at the top of the JSON in `message`.

    One that is named twice says nothing: it cannot be known which one is meant.
    """
    fields = raw.fields
    if not fields:
        return None
    if FIELD in fields:
        found = _values(fields, FIELD)
        if found:
            return parse_traceparent(found[0]) if len(found) == 1 else None
    texts = _values(fields, b"message")
    text = texts[-1] if texts else b""  # as `read_entry` has it
    if text.count(_IN_JSON) != 1:
        return None
    try:
        return parse_traceparent(_decode_message(text).traceparent.encode())
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        return None


def _values(fields: Sequence[bytes], name: bytes) -> list[bytes]:
    return [v for k, v in zip(fields[::2], fields[1::2], strict=False) if k == name]
