"""What a backend wrote: the fields of one stream entry, read into type, time, data and status.

The usual form is one field `message` with a JSON object `{"timestamp", "type", "data"}`; an object
without `data` is the data itself. Without `message` the fields are the data and a field `type` is
the type. The JSON of `data` is checked and passed on as it was written: numbers keep their digits,
and nothing is encoded again. What cannot be read becomes type `malformed` with the text; it never
stops the entries behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import orjson

from tidegate.model.ids import StreamId

DEFAULT_TYPE = "update"
MALFORMED_TYPE = "malformed"
MALFORMED_TEXT_MAX_CHARS = 4096


class RawEntry(NamedTuple):
    """An entry as Redis gave it: fields as a flat name/value list, or None when it was too large to
    carry.
    """

    id: bytes
    fields: Sequence[bytes] | None
    size_bytes: int = 0


class Entry(NamedTuple):
    """An entry that was read. `timestamp` and `data` are JSON texts."""

    id: StreamId
    type: str
    timestamp: bytes
    data: bytes
    status: str | None


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


class _Message(msgspec.Struct):
    type: str = DEFAULT_TYPE
    timestamp: msgspec.Raw = msgspec.Raw(b"")
    data: msgspec.Raw = msgspec.Raw(b"")


class _Status(msgspec.Struct):
    status: Any = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_status = msgspec.json.Decoder(_Status).decode


def read_entry(entry_id: StreamId, raw: RawEntry) -> Entry:
    """Read one entry; never raises for what a publisher wrote."""
    fields = raw.fields
    if fields is None:
        return _malformed(entry_id, {"reason": "too large to deliver", "bytes": raw.size_bytes})
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
        status = _decode_status(data).status if b'"status"' in data and data[0] == 123 else None
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        return _malformed(
            entry_id,
            {
                "reason": str(error)[:200],
                "bytes": len(text),
                "text": text[: 4 * MALFORMED_TEXT_MAX_CHARS].decode(errors="replace")[
                    :MALFORMED_TEXT_MAX_CHARS
                ],
            },
        )
    return Entry(
        entry_id,
        message.type,
        bytes(message.timestamp) or _time_of(entry_id),
        data,
        status if type(status) is str else None,
    )


def _read_fields(entry_id: StreamId, by_name: Mapping[bytes, bytes]) -> Entry:
    data = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in by_name.items()}
    entry_type = data.pop("type", DEFAULT_TYPE)
    return Entry(entry_id, entry_type, _time_of(entry_id), orjson.dumps(data), data.get("status"))


def _malformed(entry_id: StreamId, data: dict[str, object]) -> Entry:
    return Entry(entry_id, MALFORMED_TYPE, _time_of(entry_id), orjson.dumps(data), None)


def _time_of(entry_id: StreamId) -> bytes:
    """The entry's own time as a JSON text: ISO 8601 from its id, or the number where no calendar
    has it.
    """
    try:
        moment = datetime.fromtimestamp(entry_id.ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return b"%d" % entry_id.ms
    return f'"{moment.isoformat(timespec="milliseconds")}"'.encode()
