"""What one look at a stream found: the facts that everything else is decided from.

Its parts may be a moment apart, and all of it may be over a moment later; that is why each script
that changes something looks again.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from tidegate.core.feeds import LISTED_TYPE, read_listed
from tidegate.model.entries import Entry
from tidegate.model.ids import ZERO, StreamId


class Consumer(NamedTuple):
    """A consumer of the gateway's group: a pod that watches the stream, or did."""

    name: str
    pending: int
    idle_ms: int


class ConsumerGroup(NamedTuple):
    """The gateway's group.

    Attributes:
        consumers: at most as many as a look carries.
        pending: entries that its consumers have not acknowledged.
        lag: entries that it has not read; None where Redis cannot tell.
        all_told: whether `consumers` are all there are.
        position: the last id that it was given.
    """

    consumers: tuple[Consumer, ...] = ()
    pending: int = 0
    lag: int | None = None
    all_told: bool = True
    position: StreamId = ZERO


class Mark(NamedTuple):
    """What the sweep noted on a stream when it set a TTL: the last id it judged by, and the expiry.

    It is a consumer group of the stream, so it lives and dies with it and is changed in one step
    with the TTL. The expiry makes our own TTL known from one that a publisher set since.
    """

    position: StreamId
    expires_at_ms: int


class Look(NamedTuple):
    """A stream at one moment.

    Attributes:
        key: its name.
        last: what it is judged by: the id of its newest entry, or the greatest that it ever had
            when it has none. Its time is that of the last write.
        entry: the newest entry, None when there is none.
        length: entries, None when it was not asked for.
        expires_at_ms: server time of its expiry, None for never.
        group: the gateway's group, None when it is missing.
        mark: our own note, None when there is none.
        other_groups: groups of others.
        other_pending: entries that those have not acknowledged.
        subscribers: connections on its relay channel, None when it was not asked for.
        size_bytes: memory, 0 when it was not asked for.
        first: id of the oldest entry, None when it was not asked for.
    """

    key: bytes
    last: StreamId
    entry: Entry | None
    length: int | None = None
    expires_at_ms: int | None = None
    group: ConsumerGroup | None = None
    mark: Mark | None = None
    other_groups: int = 0
    other_pending: int = 0
    subscribers: int | None = None
    size_bytes: int = 0
    first: StreamId | None = None

    @property
    def is_feed(self) -> bool:
        """Whether it lists operations, by its newest entry."""
        entry = self.entry
        if entry is None or entry.type != LISTED_TYPE:
            return False
        try:
            data = orjson.loads(entry.data)
        except ValueError:
            return False
        frame = {"id": str(entry.id), "type": entry.type, "data": data}
        return read_listed(frame) is not None

    @property
    def is_ours(self) -> bool:
        """Whether the TTL that it has is one that the sweep set."""
        return self.mark is not None and self.mark.expires_at_ms == self.expires_at_ms

    @property
    def is_foreign(self) -> bool:
        """Whether someone else reads it with a group, and there is something in it that ours was
        not given, or ours was never there. A mark of ours stands for a group that we removed.
        """
        if not self.other_groups:
            return False
        known = [one.position for one in (self.group, self.mark) if one is not None]
        return not known or max(known) < self.last
