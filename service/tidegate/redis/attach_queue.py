"""The streams that are about to be attached on one primary's link, a bounded number at a time.

    soon --in turn--> SSUBSCRIBE, `attach` --page--> attached
                             |  refused, or evicted meanwhile --> soon
                             |  too much for a page --> attached, the page comes from `pages`
                             +--no longer followed--> its consumer is removed

`attach` is sent behind the subscription, so from its page on the relay misses nothing. How many are
on their way at a time is bounded by the bytes that they may bring (`in_flight`), and a reconnect
with 20,000 streams does not stop Redis for others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from tidegate.model.ids import StreamId
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.dispatcher import Dispatcher, ignore
from tidegate.redis.doorbell import Doorbell, keyspace_channel
from tidegate.redis.in_flight import PAGE_BYTES, InFlight
from tidegate.redis.link import Link, pack
from tidegate.redis.pages import PageReads
from tidegate.redis.replies import read_page
from tidegate.redis.subscription import StreamSubscription


class AttachQueue:
    """Puts streams on the link that the dispatcher has, and takes them off it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        pages: PageReads,
        in_flight: InFlight,
        settings: Settings,
        db: int,
        on_attached: Callable[[StreamSubscription], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._pages = pages
        self._limit = in_flight
        self._db = db
        self._on_attached = on_attached
        self._waiting: deque[StreamSubscription] = deque()
        self._in_flight = 0
        self._group = settings.redis.group
        self._pod = settings.server.pod
        limits = settings.dispatch
        self._limits = (limits.max_entries, limits.max_bytes, limits.max_entry_bytes)

    def __len__(self) -> int:
        return len(self._waiting) + self._in_flight

    def clear(self) -> None:
        """The link is lost."""
        self._waiting.clear()
        self._in_flight = 0

    def soon(self, watch: StreamSubscription) -> None:
        """Attach this stream when it is its turn."""
        self._waiting.append(watch)
        self._attach_more()

    def evicted(self, watch: StreamSubscription) -> None:
        """The server has ended the subscription: the slot moved away, or only just came here.

        A slot's new primary does it too when it learns late that the slot is its own, so the
        stream may well stay here: without another attach its relay would be silent forever.
        """
        if watch.attached:
            watch.reset()
            watch.listener.on_detached()
            self.soon(watch)
        else:
            watch.evicted = True  # the attach on its way is not worth anything any more

    def release(self, link: Link, watch: StreamSubscription, *, leave: bool) -> None:
        """Take it off the link. `leave`: nothing depends on this replica's consumer any more."""
        link.unsubscribe("SUNSUBSCRIBE", watch.channel)
        if self._dispatcher.doorbell is Doorbell.KEYSPACE:
            link.unsubscribe("UNSUBSCRIBE", keyspace_channel(self._db, watch.key))
        if leave and watch.attached:
            self._remove_consumer(link, watch)
        if leave and not watch.exists and self._dispatcher.doorbell is Doorbell.TRACKING:
            # Else anyone could fill Redis' table with names that do not exist.
            packed = pack("EVALSHA", lua.DISARM.sha, 1, watch.key, self._group)
            link.send(packed, ignore)

    def _remove_consumer(self, link: Link, watch: StreamSubscription) -> None:
        link.send(pack("XGROUP", "DELCONSUMER", watch.key, self._group, self._pod), ignore)

    def _attach_more(self) -> None:
        while self._waiting and self._in_flight < self._limit.attaches:
            watch = self._waiting.popleft()
            if self._dispatcher.is_current(watch) and not watch.attached:
                self._attach(watch)

    def _attach(self, watch: StreamSubscription) -> None:
        link = self._dispatcher.link
        if link is None:
            return
        self._in_flight += 1
        watch.evicted = False
        link.subscribe("SSUBSCRIBE", watch.channel)
        if self._dispatcher.doorbell is Doorbell.KEYSPACE:
            link.subscribe("SUBSCRIBE", keyspace_channel(self._db, watch.key))
        after = watch.listener.resume_after
        packed = pack(
            *("EVALSHA", lua.ATTACH.sha, 1, watch.key, self._group, self._pod, *self._limits),
            *("" if after is None else str(after), self._pages.newest, watch.channel, PAGE_BYTES),
        )
        link.send(packed, lambda reply: self._attached(watch, link, after, reply))

    def _attached(
        self, watch: StreamSubscription, link: Link, after: StreamId | None, reply: Any
    ) -> None:
        dispatcher = self._dispatcher
        if link is not dispatcher.link:
            return
        self._in_flight -= 1
        if watch.key not in dispatcher.watches:
            self._remove_consumer(link, watch)  # it was given up while this was on its way
        elif dispatcher.is_current(watch):
            if isinstance(reply, Exception):
                dispatcher.refused(watch, reply, lambda: self.soon(watch))
            elif watch.evicted:
                self.soon(watch)
            else:
                watch.attached = True
                watch.armed = dispatcher.doorbell is not Doorbell.POLL
                watch.retry_s = 0.0
                dispatcher.counts["attaches"] += 1
                self._on_attached(watch)
                page = read_page(reply, after)
                watch.registered = bool(watch.registered or page.registered)
                if page.more:
                    self._pages.too_large(watch, after)
                else:
                    watch.deliver(page)
        self._attach_more()
