"""What a backend wrote: the fields of one stream entry, read into type, time, data and status.

The usual form is one field `message` with a JSON object `{"timestamp", "type", "data"}`; an object
without `data` is the data itself. Without `message` the fields are the data and a field `type` is
the type. The JSON of `data` is checked and passed on as it was written: numbers keep their digits,
and nothing is encoded again. Of what is too large or cannot be read, type and status survive, with
what else could be kept; without them it is type `malformed` with the text. Nothing that a publisher
writes stops the entries behind it, and the end of an operation is never lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson

from tidegate.model.damaged import NOT_UTF8, read_damaged
from tidegate.model.ids import StreamId, stream_id

DEFAULT_TYPE = "update"
MALFORMED_TYPE = "malformed"
MALFORMED_TEXT_MAX_CHARS = 4096
TOO_LARGE = "too large to deliver"
#: The first byte of a JSON object.
_OBJECT = ord("{")
_FOLD = b'"fold"'


class RawEntry:
    """An entry as Redis gave it: fields as a flat name/value list."""

    __slots__ = ("_position", "fields", "id", "size_bytes")

    def __init__(
        self,
        id: bytes,  # noqa: A002
        fields: Sequence[bytes] | None,
        size_bytes: int = 0,
    ) -> None:
        """`size_bytes` is the size of an entry that was too large to relay, and 0 otherwise. Of
        such an entry, `fields` are those that were kept, or None.
        """
        self.id = id
        self.fields = fields
        self.size_bytes = size_bytes
        self._position: StreamId | None = None

    @property
    def position(self) -> StreamId:
        """The parsed id.

        Raises:
            ValueError: it is not a stream id.
        """
        position = self._position
        if position is None:
            position = self._position = stream_id(self.id)
        return position


class Entry:
    """A parsed entry."""

    __slots__ = ("data", "has_fold", "id", "is_whole", "status", "timestamp", "type")

    def __init__(
        self,
        id: StreamId,  # noqa: A002
        type: str,  # noqa: A002
        timestamp: bytes,
        data: bytes,
        status: str | None,
        is_whole: bool = True,
        has_fold: bool = False,
    ) -> None:
        """
        Args:
            id: the stream id.
            type: as the publisher wrote it.
            timestamp: as JSON.
            data: as JSON.
            status: the `status` of the data.
            is_whole: whether everything that the publisher wrote is kept.
            has_fold: whether the data has a `fold`.
        """
        self.id = id
        self.type = type
        self.timestamp = timestamp
        self.data = data
        self.status = status
        self.is_whole = is_whole
        self.has_fold = has_fold


class TerminalRules(NamedTuple):
    """What ends an operation: values of `data.status`, and types (the part after the last `_` is
    the status).
    """

    statuses: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
    types: frozenset[str] = frozenset(
        {"operation_completed", "operation_failed", "operation_cancelled"}
    )

    def status_of(self, entry: Entry) -> str | None:
        """The status that this entry sets, if it sets one; a type that ends it says more than the
        words of a backend (`{"type": "operation_failed", "data": {"status": "error"}}`).
        """
        if entry.type in self.types:
            return entry.type.rpartition("_")[2]
        return entry.status

    def is_terminal(self, entry: Entry) -> bool:
        """Whether the operation ends with this entry."""
        return entry.type in self.types or (
            entry.status is not None and entry.status in self.statuses
        )

    def deciding(self, entries: Iterable[Entry]) -> Entry | None:
        """Of entries in their order the last that sets a status: the operation has ended if that
        entry `is_terminal`. None: they do not tell.
        """
        last = None
        for entry in entries:
            if self.status_of(entry) is not None:
                last = entry
        return last


class _Message(msgspec.Struct, gc=False):
    type: str = DEFAULT_TYPE
    timestamp: msgspec.Raw = msgspec.Raw(b"")
    data: msgspec.Raw = msgspec.Raw(b"")


class _Said(msgspec.Struct, gc=False):
    """The fields of the data that the gateway reads. Parsing the data without keeping the rest is
    faster than searching it for these names.
    """

    status: Any = None
    fold: msgspec.Raw = msgspec.Raw(b"")


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_said = msgspec.json.Decoder(_Said).decode
_SAYS_NOTHING = _Said()


def read_entry(entry_id: StreamId, raw: RawEntry) -> Entry:
    """Read one entry; never raises for what a publisher wrote."""
    fields = raw.fields
    if raw.size_bytes or fields is None:
        return _too_large(entry_id, raw)
    if len(fields) == 2 and fields[0] == b"message":
        return _read_message(entry_id, fields[1])
    by_name = dict(zip(fields[::2], fields[1::2], strict=False))
    message = by_name.get(b"message")
    if message is not None:
        return _read_message(entry_id, message)
    return _read_fields(entry_id, by_name)


def _read_message(entry_id: StreamId, text: bytes) -> Entry:
    try:
        text.decode()  # msgspec checks the JSON but lets bytes that are not UTF-8 through
        message = _decode_message(text)
        data = bytes(message.data) or text.strip()
        said = _decode_said(data) if data[0] == _OBJECT else _SAYS_NOTHING
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        return _read_damaged(entry_id, text, str(error)[:200])
    return Entry(
        entry_id,
        message.type,
        bytes(message.timestamp) or _time_of(entry_id),
        data,
        said.status if type(said.status) is str else None,
        has_fold=len(said.fold) > 0,
    )


def _read_fields(entry_id: StreamId, by_name: Mapping[bytes, bytes]) -> Entry:
    data = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in by_name.items()}
    entry_type = data.pop("type", DEFAULT_TYPE)
    return Entry(
        *(entry_id, entry_type, _time_of(entry_id), orjson.dumps(data), data.get("status")),
        has_fold="fold" in data,
    )


def _read_damaged(
    entry_id: StreamId, text: bytes, error: str, size_bytes: int | None = None
) -> Entry:
    """A message that the parser refuses, or, with its size, what is kept of one."""
    found = read_damaged(text)
    marks: dict[str, object] = {
        "bytes": len(text) if size_bytes is None else size_bytes,
        "reason": found.reason if found.reason == NOT_UTF8 and size_bytes is None else error,
    }
    timestamp = _time_of(entry_id) if found.timestamp is None else found.timestamp.encode()
    unnamed = DEFAULT_TYPE if found.is_complete else MALFORMED_TYPE
    entry_type = unnamed if found.type is None else found.type
    is_whole = found.reason is None and size_bytes is None
    if is_whole and found.data is not None:
        data = found.data.encode()
        folds = _FOLD in data
        return Entry(entry_id, entry_type, timestamp, data, found.status, has_fold=folds)
    is_lost = entry_type == MALFORMED_TYPE and found.status is None
    if not found.is_complete and (size_bytes is None or is_lost):
        start = text[: 4 * MALFORMED_TEXT_MAX_CHARS].decode(errors="replace")
        marks["text"] = start[:MALFORMED_TEXT_MAX_CHARS]
    if is_lost:
        data = orjson.dumps(marks)
    elif found.data is not None:
        if found.status is not None and b'"status"' not in found.data.encode():
            marks = {"status": found.status, **marks}
        data = _marked(found.data.encode(), marks)
    else:
        kept = [b"%b:%b" % (_quoted(key), value.encode()) for key, value in found.kept.items()]
        if found.status is not None and "status" not in found.kept:
            marks = {"status": found.status, **marks}
        data = _marked(b"{%b}" % b",".join(kept), marks)
    folds = _FOLD in data
    return Entry(
        *(entry_id, entry_type, timestamp, data, found.status), is_whole=False, has_fold=folds
    )


def _too_large(entry_id: StreamId, raw: RawEntry) -> Entry:
    """What was kept of it on the server's side, read as if that were all."""
    fields = raw.fields or ()
    by_name = dict(zip(fields[::2], fields[1::2], strict=False))
    message = by_name.get(b"message")
    if message is not None:
        return _read_damaged(entry_id, message, TOO_LARGE, raw.size_bytes)
    entry = _read_fields(entry_id, by_name)
    marks = {"bytes": raw.size_bytes, "reason": TOO_LARGE}
    entry.is_whole = False
    if by_name:
        entry.data = _marked(entry.data, marks)
    else:
        entry.type = MALFORMED_TYPE
        entry.data = orjson.dumps(marks)
    return entry


def _marked(data: bytes, marks: Mapping[str, object]) -> bytes:
    """`data` says what is wrong with it, in members that go before its own of these names."""
    said = orjson.dumps({"truncated": True, **marks})
    members = data.strip()[1:-1].rstrip() if data.lstrip().startswith(b"{") else b""
    return b"{%b,%b" % (members, said[1:]) if members else said


def _quoted(key: str) -> bytes:
    try:
        return orjson.dumps(key)
    except TypeError:  # half a surrogate pair
        return json.dumps(key).encode()


def _time_of(entry_id: StreamId) -> bytes:
    """The entry's own time as a JSON text: ISO 8601 from its id, or the number where no calendar
    has it.
    """
    second, ms = divmod(entry_id.ms, 1000)
    text = _second(second)
    return b"%d" % entry_id.ms if text is None else b'"%b.%03d+00:00"' % (text, ms)


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes | None:
    """Seconds since 1970 as ISO 8601; None if that is out of range. It is cached because most
    entries are of the same second as the one before.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
    except (ValueError, OverflowError, OSError):
        return None
