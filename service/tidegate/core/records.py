"""What Redis tells the core: the records that cross from the Redis adapter.

Ids stay bytes where they are only compared for equality, and are `StreamId`s where they are
ordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tidegate.model.entries import RawEntry
from tidegate.model.ids import ZERO, StreamId

#: The origin of what was dispatched in the same step as it was published, by no replica.
PUBLISHER = b"publisher"


class Relay:
    """One message of the relay: entries that a replica has dispatched, in order.

    Attributes:
        origin: the pod that dispatched.
        previous: id of the entry just before the first one; empty when none exists (any more).
        entries: may be empty when `created`; empty as well when they are too large for a message.
        created: the consumer group was missing and has just been made: the log may be a new one.
        added: the stream's `entries-added` after the last entry; only given when `previous` is
        empty.
        by_attach: `created` by an attach; whose it was is told by its page.
        asked_ns: when this replica called for it (Unix time); 0 when it did not, or is not traced.
        unread: id of the last of entries that are too large for a message and have to be read from
        the stream; empty when `entries` has them.
    """

    __slots__ = (
        "added",
        "asked_ns",
        "by_attach",
        "created",
        "entries",
        "origin",
        "previous",
        "unread",
    )

    def __init__(
        self,
        origin: bytes,
        previous: bytes,
        entries: Sequence[RawEntry],
        created: bool,
        added: int | None,
        by_attach: bool = False,
        unread: bytes = b"",
    ) -> None:
        self.origin = origin
        self.previous = previous
        self.entries = entries
        self.created = created
        self.added = added
        self.by_attach = by_attach
        self.asked_ns = 0
        self.unread = unread


class StreamInfo(NamedTuple):
    """The stream at one moment (`XINFO STREAM`); `exists` is False when there is no such key.

    `deleted` is the greatest id that was removed by `XDEL` (trimming does not count).
    """

    exists: bool = False
    first: StreamId = ZERO
    last: StreamId = ZERO
    length: int = 0
    added: int = 0
    deleted: StreamId = ZERO


class Page(NamedTuple):
    """Entries read from the stream at the moment of `info`, in order.

    Attributes:
        after: the position that the read began after; None for the newest entries.
        more: the read stopped at a bound and more entries follow.
        registered: this replica's consumer was missing in the group, and is there now; None where
            it was not asked, which only an attach does.
    """

    info: StreamInfo
    entries: Sequence[RawEntry]
    more: bool
    after: StreamId | None
    registered: bool | None = None


class Ask(NamedTuple):
    """What a viewer asked for.

    Attributes:
        after: resume after this position; None for the newest history.
        history: how many entries without `after`; None for all.
        state: what else is known of the operation, for `current_state`.
        acks: it answers an `ack_request`.
        by: who asks, by whom reading is shared fairly: a user, or an anonymous connection.
    """

    after: StreamId | None
    history: int | None
    state: Mapping[str, Any] | None = None
    acks: bool = False
    by: str = ""
