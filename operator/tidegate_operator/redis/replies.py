"""What the sweep's scripts answer, turned into records."""

from __future__ import annotations

from typing import Any, NamedTuple

from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.ids import stream_id
from tidegate_operator.redis.steps import GroupNames
from tidegate_operator.streams.liveness import Leases
from tidegate_operator.streams.look import Consumer, ConsumerGroup, Look, Mark


class Outline(NamedTuple):
    """What the first commands of a look tell: all but the newest entry and the consumers.

    `consumers` is the number of those in the gateway's group.
    """

    key: bytes
    expires_at_ms: int | None
    size_bytes: int
    group: ConsumerGroup | None
    consumers: int
    mark: Mark | None
    other_groups: int
    other_pending: int


def read_outline(
    key: bytes, expiry: int, size: int | None, groups: list[Any], names: GroupNames
) -> Outline:
    """From `PEXPIRETIME`, `MEMORY USAGE` and `XINFO GROUPS`."""
    group, mark, consumers, others, pending = None, None, 0, 0, 0
    group_name, mark_name = names.group.encode(), names.mark.encode()
    for row in groups:
        by = dict(zip(row[::2], row[1::2], strict=True))
        name = by[b"name"]
        if name == mark_name:
            mark = Mark(stream_id(by[b"last-delivered-id"]), by.get(b"entries-read") or -1)
        elif name == group_name:
            position = stream_id(by[b"last-delivered-id"])
            group = ConsumerGroup((), by[b"pending"], _lag(by.get(b"lag")), position=position)
            consumers = by[b"consumers"]
        else:
            others += 1
            pending += by[b"pending"]
    at = expiry if expiry >= 0 else None
    return Outline(key, at, size or 0, group, consumers, mark, others, pending)


def complete(outline: Outline, newest: list[Any], consumers: list[Any], length: int | None) -> Look:
    """A look, from an outline and `XREVRANGE`, `XINFO CONSUMERS`, `XLEN`.

    Args:
        outline: of the stream.
        newest: the newest entry, not empty.
        consumers: rows of the gateway's group, empty when it has none.
        length: if it was asked for.
    """
    entry_id, fields = newest[0]
    entry = read_entry(stream_id(entry_id), RawEntry(entry_id, fields))
    group = outline.group
    if group is not None and consumers:
        rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in consumers]
        group = group._replace(
            consumers=tuple(
                Consumer(_text(by[b"name"]), by[b"pending"], by[b"idle"]) for by in rows
            )
        )
    return Look(
        key=outline.key,
        last=entry.id,
        entry=entry,
        length=length,
        expires_at_ms=outline.expires_at_ms,
        group=group,
        mark=outline.mark,
        other_groups=outline.other_groups,
        other_pending=outline.other_pending,
        size_bytes=outline.size_bytes,
    )


def read_look(outline: Outline, reply: list[Any] | None) -> Look | None:
    """The answer of `look.lua`, for a stream of which something may be too large to carry. None
    when there is no stream.
    """
    if not reply:
        return None
    last, newest, fields, size_bytes, length, group = reply
    entry = None
    if newest:
        entry = read_entry(stream_id(newest), RawEntry(newest, fields, size_bytes))
    return Look(
        key=outline.key,
        last=entry.id if entry else stream_id(last),
        entry=entry,
        length=length,
        expires_at_ms=outline.expires_at_ms,
        group=_read_group(group),
        mark=outline.mark,
        other_groups=outline.other_groups,
        other_pending=outline.other_pending,
        size_bytes=outline.size_bytes,
    )


def _read_group(reply: list[Any] | None) -> ConsumerGroup | None:
    if not reply:
        return None
    position, lag, pending, all_told, *rows = reply
    consumers = tuple(
        Consumer(_text(name), count, idle)
        for name, count, idle in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
    )
    return ConsumerGroup(consumers, pending, _lag(lag), all_told == 1, stream_id(position))


def _lag(reply: int | None) -> int | None:
    """None when the server cannot say it. A group that was set to have read more than was ever
    added has a negative one, which says as little.
    """
    return reply if reply is not None and reply >= 0 else None


def read_leases(reply: list[Any], lease_ms: int) -> Leases:
    """The answer of `leases.lua`. What is no number in it makes the view uncertain, not an error:
    anyone may write there.
    """
    now_ms, since, last, order, *rows = reply
    try:
        clock = (int(since), int(last), int(order))
    except (TypeError, ValueError):
        clock = None
    expiries = []
    for name, score in zip(rows[::2], rows[1::2], strict=True):
        expiries.append((_text(name), float(score)))
    return Leases.of(int(now_ms), clock, expiries, lease_ms)


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")
