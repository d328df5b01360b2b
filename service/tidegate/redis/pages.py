"""Pages of streams for their topics: over the link if they are small, else over an ordinary
connection.

    read --> link: all of it, if that is PAGE_BYTES at the most --page--> the listener
               | too much, or known to be                           ^
               +--> ordinary connection --page that says `more`-----+

Only a page over the link has a place among the relay messages, so only that ends a repair: what
comes from elsewhere is handed on as if more were left, and the topic asks again. That a stream is
gone is believed of the link only, too. Both kinds are bounded in number; one page at a time is
wanted by each stream, and what comes for a link or a question that is past is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from tidegate.core.records import Page
from tidegate.model.errors import RedisUnavailable, StreamUnusable
from tidegate.model.ids import StreamId
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.dispatcher import Dispatcher
from tidegate.redis.in_flight import PAGE_BYTES, InFlight
from tidegate.redis.link import Link, pack
from tidegate.redis.log import RedisLog
from tidegate.redis.replies import read_page
from tidegate.redis.subscription import StreamSubscription
from tidegate.redis.topology import LARGE_PAGES


class _Wanted(NamedTuple):
    """A page of a stream: above `after`, or the newest entries (None)."""

    watch: StreamSubscription
    after: StreamId | None
    #: `StreamSubscription.question` as it was asked.
    question: int


class PageReads:
    """Of the streams that one primary's dispatcher has."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        log: RedisLog,
        in_flight: InFlight,
        settings: Settings,
        on_gone: Callable[[StreamSubscription], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._in_flight = in_flight
        #: Called when a stream that was to be read for the first time has gone meanwhile.
        self._on_gone = on_gone
        #: Where fetches run; None before the primary does.
        self.tasks: asyncio.TaskGroup | None = None
        self._asks: deque[_Wanted] = deque()
        self._asked = 0
        self._fetches: deque[_Wanted] = deque()
        self._fetching = 0
        limits = settings.dispatch
        # One more, because the first may be the last one applied.
        self._limits = (limits.max_entries + 1, PAGE_BYTES, limits.max_entry_bytes)
        # One more than the default history, so that the position before it is known as well.
        self.newest = settings.viewer.history_entries + 1

    def read(self, watch: StreamSubscription, after: StreamId) -> None:
        """Read above `after`; the page goes to the listener."""
        if self._dispatcher.link is None:
            return  # the next attach reads from the listener's position
        self._dispatcher.counts["repair_reads"] += 1
        wanted = self._want(watch, after)
        if watch.is_far:
            self._fetch(wanted)
        else:
            self._ask(wanted)

    def too_large(self, watch: StreamSubscription, after: StreamId | None) -> None:
        """An attach was answered that there is more above `after` than the link may carry."""
        self._fetch(self._want(watch, after))

    def clear(self) -> None:
        """The link is lost."""
        self._asks.clear()
        self._asked = 0
        self._fetches.clear()

    def _want(self, watch: StreamSubscription, after: StreamId | None) -> _Wanted:
        watch.question += 1
        return _Wanted(watch, after, watch.question)

    def _is_wanted(self, wanted: _Wanted) -> bool:
        watch = wanted.watch
        current = self._dispatcher.link is not None and self._dispatcher.is_current(watch)
        return current and watch.attached and watch.question == wanted.question

    # -- over the link ---------------------------------------------------------------------------

    def _ask(self, wanted: _Wanted) -> None:
        self._asks.append(wanted)
        self._ask_more()

    def _ask_more(self) -> None:
        link = self._dispatcher.link
        while link is not None and self._asks and self._asked < self._in_flight.reads:
            wanted = self._asks.popleft()
            if self._is_wanted(wanted):
                self._asked += 1
                packed = pack(
                    *("EVALSHA", lua.READ_WHOLE.sha, 1, wanted.watch.key),
                    *(str(wanted.after), *self._limits),
                )
                link.send(packed, self._answer_of(link, wanted))

    def _answer_of(self, link: Link, wanted: _Wanted) -> Callable[[Any], None]:
        def answered(reply: Any) -> None:
            if link is self._dispatcher.link:
                self._asked -= 1
                if self._is_wanted(wanted):
                    self._answered(wanted, reply)
                self._ask_more()

        return answered

    def _answered(self, wanted: _Wanted, reply: Any) -> None:
        watch = wanted.watch
        if isinstance(reply, Exception):
            self._dispatcher.refused(watch, reply, lambda: self._ask(wanted))
            return
        watch.retry_s = 0.0
        page = read_page(reply, wanted.after)
        if page.more:
            self._fetch(wanted)
        else:
            watch.deliver(page)

    # -- over an ordinary connection -------------------------------------------------------------

    def _fetch(self, wanted: _Wanted) -> None:
        self._fetches.append(wanted)
        self._fetch_more()

    def _fetch_more(self) -> None:
        while self.tasks is not None and self._fetches and self._fetching < LARGE_PAGES:
            wanted = self._fetches.popleft()
            if self._is_wanted(wanted):
                self._fetching += 1
                self._dispatcher.counts["large_pages"] += 1
                self.tasks.create_task(self._fetch_now(wanted), name="large page")

    async def _fetch_now(self, wanted: _Wanted) -> None:
        watch, after, _ = wanted
        try:
            try:
                if after is None:
                    page = await self._log.newest(watch.operation, self.newest)
                else:
                    page = await self._log.after(watch.operation, after)
            finally:
                self._fetching -= 1
        except StreamUnusable as error:
            if self._is_wanted(wanted):
                watch.listener.on_failed(error)
        except RedisUnavailable as error:
            if self._is_wanted(wanted):
                self._dispatcher.try_later(watch, error, lambda: self._fetch(wanted))
        else:
            if self._is_wanted(wanted):
                self._fetched(wanted, page)
        self._fetch_more()

    def _fetched(self, wanted: _Wanted, page: Page) -> None:
        watch = wanted.watch
        watch.retry_s = 0.0
        if page.info.exists:
            watch.is_far = page.more and wanted.after is not None
            watch.deliver(page._replace(more=True))
        elif wanted.after is None:
            self._on_gone(watch)
        else:
            watch.is_far = False
            self._ask(wanted)
