"""A Redis stream as the Lua scripts see it, in a few lines of Python, and a link that misbehaves.

`Stream` answers `dispatch`, `attach` and reads as the scripts do. Every entry ever written has a
number of its own, so that it can be told apart from one with a similar id in another log.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import NamedTuple

from tidegate.core.records import Page, Relay, StreamInfo
from tidegate.model.entries import RawEntry
from tidegate.model.ids import ZERO, StreamId

PAGE_ENTRIES = 3
DISPATCH_ENTRIES = 4


class Written(NamedTuple):
    """An entry: its number over all logs, and its id."""

    number: int
    id: StreamId
    message: str = ""

    def raw(self) -> RawEntry:
        text = self.message or json.dumps({"type": "note", "data": {"number": self.number}})
        return RawEntry(str(self.id).encode(), [b"message", text.encode()])


@dataclass
class Stream:
    """One key. `history` has all entries of all logs, in the order in which they were written."""

    history: list[Written] = field(default_factory=list)
    log: list[Written] = field(default_factory=list)
    exists: bool = False
    last: StreamId = ZERO
    added: int = 0
    group: StreamId | None = None
    #: This replica's consumer is in the group.
    registered: bool = False
    #: The greatest id that XDEL has removed.
    deleted: StreamId = ZERO
    logs: int = 0
    #: The bounds of a page, of a dispatch, and of what an attach brings without a position.
    page_entries: int = PAGE_ENTRIES
    dispatch_entries: int = DISPATCH_ENTRIES
    newest_entries: int = PAGE_ENTRIES
    #: What a relay message and a page over the link have room for.
    whole_entries: int = sys.maxsize

    # --- what backends and operators do

    def add(self, ms: int, message: str = "") -> Written:
        """XADD. Ids of different logs are never equal: `seq` is the number of the log."""
        if not self.exists:
            self.exists = True
            self.logs += 1
            self.log, self.last, self.added, self.group = [], ZERO, 0, None
            self.deleted, self.registered = ZERO, False
        entry = Written(len(self.history), StreamId(max(ms, self.last.ms + 1), self.logs), message)
        self.history.append(entry)
        self.log.append(entry)
        self.last = entry.id
        self.added += 1
        return entry

    def trim(self, keep: int) -> None:
        self.log = self.log[len(self.log) - min(keep, len(self.log)) :]

    def remove_newest(self, count: int) -> None:
        """XDEL; `last` stays where it was."""
        self.deleted = max(self.deleted, self.log[-1].id)
        del self.log[len(self.log) - count :]

    def delete(self) -> None:
        self.exists, self.log, self.group, self.registered = False, [], None, False
        self.last, self.added = ZERO, 0

    # --- the scripts

    def info(self) -> StreamInfo:
        if not self.exists:
            return StreamInfo()
        first = self.log[0].id if self.log else ZERO
        return StreamInfo(
            exists=True,
            first=first,
            last=self.last,
            length=len(self.log),
            added=self.added,
            deleted=self.deleted,
        )

    def dispatch(self, origin: bytes) -> tuple[list[Relay], bytes | None]:
        """The relay messages, and what `seen` is told (None: entries were found)."""
        if not self.exists:
            return [], b""
        created = self.group is None
        self.registered |= created
        cursor = self.group or ZERO
        found = [entry for entry in self.log if entry.id > cursor][: self.dispatch_entries]
        self.group = found[-1].id if found else cursor
        relays = [self._relay(origin, found, created=created)] if found or created else []
        if found:
            return relays, None
        return relays, str(self.log[-1].id).encode() if self.log else b""

    def attach(self, origin: bytes, after: StreamId | None) -> tuple[list[Relay], Page]:
        if not self.exists:
            return [], Page(StreamInfo(), [], more=False, after=after)
        relays: list[Relay] = []
        if self.group is None:
            self.group, self.registered = self.last, False  # its own relay is not told to anybody
        else:
            relays, _ = self.dispatch(origin)
        registered, self.registered = not self.registered, True
        page = self.newest() if after is None else self.read(after)
        return relays, page._replace(registered=registered)

    def attach_whole(
        self, origin: bytes, after: StreamId | None
    ) -> tuple[list[Relay], Page | None]:
        """The same where a page has a size; None: there is more than fits."""
        relays, page = self.attach(origin, after)
        if after is not None:
            whole = self.read_whole(after)
            return relays, whole and whole._replace(registered=page.registered)
        return relays, page if len(page.entries) <= self.whole_entries else None

    def read_whole(self, after: StreamId) -> Page | None:
        """What the link may carry; None: there is more than fits."""
        newer = [entry.raw() for entry in self.log if entry.id > after]
        if len(newer) > self.whole_entries:
            return None
        return Page(self.info(), newer, more=False, after=after)

    def newest(self) -> Page:
        """Over another connection."""
        newest = [entry.raw() for entry in self.log[-self.newest_entries :]]
        return Page(self.info(), newest, more=False, after=None)

    def read(self, after: StreamId) -> Page:
        """Over another connection."""
        newer = [entry.raw() for entry in self.log if entry.id > after]
        size = self.page_entries
        return Page(self.info(), newer[:size], len(newer) > size, after)

    def locate(self, newest: int | None) -> tuple[StreamInfo, StreamId]:
        """The position just before the newest entries; None: before all there are."""
        info = self.info()
        wanted = len(self.log) if newest is None else newest
        if wanted < len(self.log):
            return info, self.log[len(self.log) - wanted - 1].id
        return info, ZERO if info.added == info.length else info.first.before()

    def _relay(self, origin: bytes, found: list[Written], *, created: bool) -> Relay:
        previous, added = b"", None
        if found:
            before = [entry for entry in self.log if entry.id < found[0].id]
            if before:
                previous = str(before[-1].id).encode()
            else:
                added = self.added
        if len(found) > self.whole_entries:
            unread = str(found[-1].id).encode()
            return Relay(origin, previous, (), created, added, unread=unread)
        return Relay(origin, previous, [entry.raw() for entry in found], created, added)
