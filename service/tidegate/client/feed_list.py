"""The operations of a feed as a list, without a socket: what to watch, and what the list is.

    listed --watch sent--> watched --`unwatched`, finished--> over --`keep_ended_s`--> out
                              |  ^--`unwatched`, to come back later: sent again after a second
                              +--newer ones than `limit`, or refused--> out

Told what arrives, it hands out the messages to send (`outgoing`), the list (`operations`) and when
it wants to be looked at again (`next_due`). `now` is Unix time in seconds; every operation is
watched once, and resumed behind the last entry that was received of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tidegate.core.feeds import LISTED_MAX, read_listed
from tidegate.model.close_codes import ComeBack, come_back
from tidegate.model.errors import InvalidRequest
from tidegate.model.folded_state import FoldedState, fold, is_entry
from tidegate.model.frame_values import number_of, read_position
from tidegate.model.ids import OLDEST_TIME_MS, OperationId

KEEP_ENDED_S = 60.0
#: What a gateway could not do just now is asked for again after so long.
AGAIN_S = 1.0


class FeedOperation(NamedTuple):
    """One operation of the list.

    Attributes:
        title: its own, or that of the feed.
        listed_s: when it was listed, Unix time in seconds.
    """

    operation: str
    title: str
    listed_s: float
    state: FoldedState


@dataclass(slots=True)
class _Item:
    operation: OperationId
    title: str
    listed_s: float
    state: FoldedState = field(default_factory=FoldedState)
    is_over: bool = False
    #: When to ask for it again; None: it is asked for.
    again_at: float | None = None


class FeedList:
    """Of one feed."""

    def __init__(self, feed: OperationId, *, limit: int, keep_ended_s: float) -> None:
        """Raises InvalidRequest."""
        if not 1 <= limit <= LISTED_MAX:
            raise InvalidRequest("limit", f"must be from 1 to {LISTED_MAX}")
        if not keep_ended_s >= 0:
            raise InvalidRequest("keep_ended_s", "must be 0 or more")
        self._feed = feed
        self._limit = limit
        self._keep_ended_s = keep_ended_s
        #: By operation; the newest is the last.
        self._items: dict[str, _Item] = {}
        self._messages: list[str] = []
        self._is_open = False
        #: The list is another one than when it was last taken.
        self.changed = True

    def operations(self) -> tuple[FeedOperation, ...]:
        """Newest first."""
        self.changed = False
        return tuple(
            FeedOperation(one.operation, one.state.title or one.title, one.listed_s, one.state)
            for one in reversed(self._items.values())
        )

    def opened(self, cursor: str | None) -> None:
        """A connection is there: ask for the feed behind this position, and for all the others."""
        self._messages.clear()
        self._is_open = True
        self.watch_feed(cursor)
        for item in self._items.values():
            item.again_at = None
            if not item.is_over:
                self._watch(item)

    def closed(self) -> None:
        """It is lost."""
        self._is_open = False
        self._messages.clear()

    def watch_feed(self, cursor: str | None) -> None:
        """Ask for the feed."""
        where: dict[str, Any] = {"history": self._limit}
        if cursor is not None:
            where = {"last_event_id": cursor}
        self._say({"type": "watch", "operation": self._feed, **where})

    def outgoing(self) -> list[str]:
        """What is to be sent now."""
        messages, self._messages = self._messages, []
        return messages

    def listed(self, frame: Mapping[str, Any], now: float) -> None:
        """An entry of the feed."""
        found = read_listed(frame)
        if found is None or found.operation == self._feed:
            return
        position = read_position(found.entry_id)
        is_time = position is not None and position.ms >= OLDEST_TIME_MS
        listed_s = position.ms / 1000 if position is not None and is_time else now
        item = self._items.pop(found.operation, None)  # what is listed again is the newest
        if item is None or item.is_over:
            item = _Item(found.operation, found.title, listed_s)
            self._watch(item)
        item.title, item.listed_s = found.title or item.title, listed_s
        self._items[found.operation] = item
        self.changed = True
        self._make_room(now)

    def received(self, frame: Mapping[str, Any], now: float) -> None:
        """A frame of an operation."""
        item = self._items.get(str(frame.get("operation")))
        if item is None or item.is_over:
            return
        if frame.get("type") == "unwatched" and not is_entry(frame):
            self._unwatched(item, frame, now)
        else:
            before = item.state
            item.state, _ = fold(before, frame)
            self.changed = self.changed or item.state is not before
        self._make_room(now)

    def look(self, now: float) -> None:
        """Time has passed."""
        for item in self._items.values():
            if item.again_at is not None and item.again_at <= now and self._is_open:
                item.again_at = None
                self._watch(item)
        self._make_room(now)

    def next_due(self) -> float | None:
        """When to `look`; None: when something arrives."""
        times = [one.again_at for one in self._items.values() if one.again_at is not None]
        times += [at for at in map(self._leaves_at, self._items.values()) if at is not None]
        return min(times, default=None)

    # -- inside -----------------------------------------------------------------------------------

    def _unwatched(self, item: _Item, frame: Mapping[str, Any], now: float) -> None:
        data = frame.get("data")
        code = number_of(data.get("code")) if isinstance(data, Mapping) else None
        if code == 1000:
            item.is_over = True
        elif come_back(int(code or 0)) is ComeBack.NO:
            del self._items[item.operation]
        else:
            item.again_at = now + AGAIN_S
        self.changed = True

    def _leaves_at(self, item: _Item) -> float | None:
        state = item.state
        if not state.finished:
            return None
        ended_ms = state.ended_ms or state.updated_ms
        return (item.listed_s if ended_ms is None else ended_ms / 1000) + self._keep_ended_s

    def _make_room(self, now: float) -> None:
        over = len(self._items) - self._limit
        for number, item in enumerate(tuple(self._items.values())):
            leaves_at = self._leaves_at(item)
            if number < over or (leaves_at is not None and leaves_at <= now):
                del self._items[item.operation]
                self.changed = True
                if not item.is_over and item.again_at is None:
                    self._say({"type": "unwatch", "operation": item.operation})

    def _watch(self, item: _Item) -> None:
        cursor = item.state.cursor
        where = {"history": "none"} if cursor is None else {"last_event_id": cursor}
        self._say({"type": "watch", "operation": item.operation, **where})

    def _say(self, message: Mapping[str, Any]) -> None:
        if self._is_open:
            self._messages.append(json.dumps(message))
