"""What Redis answered, turned into records: pages, relay messages, and what an error asks for.

Anyone who may publish on a channel can send anything, so a relay message is checked before it
becomes a record.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no stubs of its own

from tidegate.core.records import Page, Relay, StreamInfo
from tidegate.model.entries import RawEntry
from tidegate.model.ids import StreamId, is_stream_id, stream_id


class Trouble(enum.Enum):
    """What to do about an error reply."""

    NO_SCRIPT = "load the scripts, send again"
    MOVED = "ask where the key is now"
    ASK = "the key's slot is on its way to another primary"
    DEMOTED = "this server is no primary any more"
    NOT_A_STREAM = "the key holds something else"
    FORBIDDEN = "the login may not do this"
    LATER = "try again"


#: Of a relay message: the group was missing, and an attach has made it.
ATTACHED = 2

_BY_WORD = {
    "NOSCRIPT": Trouble.NO_SCRIPT,
    "MOVED": Trouble.MOVED,
    "ASK": Trouble.ASK,
    "READONLY": Trouble.DEMOTED,
    "WRONGTYPE": Trouble.NOT_A_STREAM,
    "NOPERM": Trouble.FORBIDDEN,
}


def trouble_of(error: Exception) -> Trouble:
    """What an error reply asks for; the server's words for it are its first."""
    text = str(error)
    for word, trouble in _BY_WORD.items():
        if text.startswith(word) or (trouble is not Trouble.ASK and f" {word} " in text[:120]):
            return trouble
    return Trouble.LATER


def is_dispatched(groups: Any, group: bytes, newest: bytes) -> bool:
    """Whether XINFO GROUPS says that this group has had every entry, up to `newest`."""
    try:
        rows = [row for row in groups if row[b"name"] == group]
        return len(rows) == 1 and rows[0][b"lag"] == 0 and rows[0][b"last-delivered-id"] == newest
    except (KeyError, TypeError):
        return False


def read_relay(payload: bytes) -> Relay | None:
    """A relay message, or None when it is not one of ours."""
    try:
        origin, previous, created, entries, added = msgpack.unpackb(payload, raw=True)
        unread = entries if type(entries) is bytes else b""
        raws = () if unread else tuple([_checked_entry(entry) for entry in entries])
        if type(origin) is not bytes or type(previous) is not bytes:
            return None
        if previous and not is_stream_id(previous):
            return None
        if type(created) is not int or (unread and not is_stream_id(unread)):
            return None
        count = added if type(added) is int else None
        return Relay(origin, previous, raws, created > 0, count, created == ATTACHED, unread)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


def _checked_entry(entry: Sequence[Any]) -> RawEntry:
    size_bytes: Any = 0
    if len(entry) == 2:
        entry_id, fields = entry
    else:
        entry_id, fields, size_bytes = entry
        if type(size_bytes) is not int or size_bytes <= 0:
            raise ValueError("not a size")
    if type(entry_id) is not bytes or not is_stream_id(entry_id):
        raise ValueError("not a stream id")
    if type(fields) is not list:
        raise ValueError("not fields")
    for text in fields:
        if type(text) is not bytes:
            raise ValueError("not a field")
    return RawEntry(entry_id, fields, size_bytes)


def _raw_entry(entry: Sequence[Any]) -> RawEntry:
    entry_id, fields, *size = entry
    raw = RawEntry(entry_id, fields, *size)
    _ = raw.position  # raises ValueError when it has none
    return raw


def read_info(reply: list[Any] | None) -> StreamInfo:
    """The answer of `inspect` in common.lua."""
    if not reply:
        return StreamInfo()
    first, last, length, added, deleted = reply
    return StreamInfo(
        exists=True,
        first=stream_id(first),
        last=stream_id(last),
        length=int(length),
        added=int(added),
        deleted=stream_id(deleted),
    )


def read_page(reply: list[Any], after: StreamId | None) -> Page:
    """The answer of the scripts that read pages."""
    info, entries, more, *registered = reply
    raws = [_raw_entry(entry) for entry in entries]
    is_new = registered[0] == 1 if registered else None
    return Page(read_info(info), raws, more == 1, after, is_new)
