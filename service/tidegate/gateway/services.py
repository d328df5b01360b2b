"""What the channels of one replica have in common: what they are made with, and what they are
measured by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from tidegate.core.ports import Feed
from tidegate.core.topic import Topic, TopicRules
from tidegate.gateway.catchup import CatchUp
from tidegate.gateway.outbox import ChannelOutbox, Measures
from tidegate.model.settings import Settings

if TYPE_CHECKING:
    from tidegate.telemetry.entry_spans import EntrySpans

#: Malformed entries are counted always and logged this often at the most.
COMPLAINT_EVERY_S = 10.0

log = structlog.get_logger(__name__)


def utc_now() -> str:
    """The wall clock, for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ChannelServices:
    """One for all channels of a replica."""

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        catch_up: CatchUp,
        measures: Measures,
        *,
        rules: TopicRules,
        wake: Callable[[ChannelOutbox], None],
        drop: Callable[[Topic], None],
        tracer: EntrySpans | None,
    ) -> None:
        """`wake`: this outbox has something to send. `drop`: this topic's channel is not needed
        any more. `tracer`: None unless entries are traced.
        """
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.feed = feed
        self.catch_up = catch_up
        self.measures = measures
        self.counters = measures.counters
        self.rules = rules
        self.wake = wake
        self.drop = drop
        self.tracer = tracer
        #: By which timers are set.
        self.time = loop.time
        #: Starts a timer: delay in seconds, function, its arguments.
        self.later: Callable[..., asyncio.TimerHandle] = loop.call_later
        self._next_complaint = 0.0

    def malformed(self, topic: Topic) -> None:
        """Count its malformed entries, and log now and then that there are some."""
        self.counters.malformed += topic.malformed
        topic.malformed = 0
        now = self.time()
        if now >= self._next_complaint:
            self._next_complaint = now + COMPLAINT_EVERY_S
            log.warning(
                "malformed entries", operation=topic.operation, total=self.counters.malformed
            )
