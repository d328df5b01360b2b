"""What the sweep's scripts answer, turned into records."""

from __future__ import annotations

from typing import Any

from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.ids import stream_id
from tidegate_operator.streams.liveness import Leases
from tidegate_operator.streams.look import Consumer, Group, Look, Mark


def read_look(key: bytes, reply: list[Any] | None) -> Look | None:
    """The answer of `look.lua`; None when there is no stream."""
    if not reply:
        return None
    last, newest, fields, length, expiry, subscribers, size, others, pending, mark, group = reply
    entry = None
    if newest:
        newest_id = stream_id(newest)
        if isinstance(fields, int):
            entry = read_entry(newest_id, RawEntry(newest, None, fields))
        else:
            entry = read_entry(newest_id, RawEntry(newest, fields))
    return Look(
        key=key,
        last=stream_id(last),
        newest=entry.id if entry else None,
        entry=entry,
        length=length,
        expires_at_ms=expiry if expiry >= 0 else None,
        group=_read_group(group),
        mark=Mark(stream_id(mark[0]), mark[1]) if mark else None,
        other_groups=others,
        other_pending=pending,
        subscribers=subscribers if subscribers >= 0 else None,
        size_bytes=size,
    )


def _read_group(reply: list[Any] | None) -> Group | None:
    if not reply:
        return None
    lag, pending, all_told, *rows = reply
    consumers = tuple(
        Consumer(name.decode(errors="replace"), count, idle)
        for name, count, idle in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
    )
    return Group(consumers, pending, lag if lag >= 0 else None, all_told == 1)


def read_leases(reply: list[Any], lease_ms: int) -> Leases:
    """The answer of `leases.lua`. What is no number in it makes the view uncertain, not an error:
    anybody may write there.
    """
    now_ms, since, last, order, *rows = reply
    try:
        clock = (int(since), int(last), int(order))
    except (TypeError, ValueError):
        clock = None
    expiries = []
    for name, score in zip(rows[::2], rows[1::2], strict=True):
        expiries.append((name.decode(errors="replace"), float(score)))
    return Leases.of(int(now_ms), clock, expiries, lease_ms)
