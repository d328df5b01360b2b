"""How long a stream is kept: its state, and the moment at which it may go.

    others read it with a group, and ours was not given all of it --> FOREIGN
    has a terminal entry as its newest?  -- yes, of a failure --> FAILED
                                         -- yes --------------> FINISHED
    someone watches, its ids tell no time, or entries wait for others' consumers --> RUNNING
    nothing written for idleS, and it has a group --> IDLE
    nothing written for orphanS, and it has none  --> ORPHAN
    else --> RUNNING

A foreign stream is someone else's: of it only our own TTL is ever taken back. A running stream is
kept, whatever else. The other states get a TTL and never a deletion: who reads
or writes late finds the stream for a grace yet, and the next sweep takes the TTL back when it runs
again. The age is that of the last id by the server's clock; ids that are no times (`1-0`, `2-0`)
tell no age, so such streams only ever go when they have ended.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from tidegate.model.entries import Entry, TerminalRules
from tidegate.model.ids import OLDEST_TIME_MS
from tidegate_operator.model.streams import FeedSpec, Streams, Ttl
from tidegate_operator.streams.liveness import Liveness
from tidegate_operator.streams.look import Look

#: A publisher's clock may be ahead by so much; an id beyond is not a time.
AHEAD_MS = 86_400_000
#: Least time between the sweep that sets a TTL and the expiry. Two intervals at least, so that a
#: stream that runs again is seen by a sweep before it goes.
GRACE_S = 600


class RetentionState(enum.Enum):
    """What a stream is to the sweep."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    IDLE = "idle"
    ORPHAN = "orphan"
    FOREIGN = "foreign"

    @property
    def goes(self) -> bool:
        """Whether such a stream is given a TTL."""
        return self not in (RetentionState.RUNNING, RetentionState.FOREIGN)


class Judged(NamedTuple):
    """A state, and until when the stream is kept.

    Attributes:
        state: what it is.
        expire_at_ms: the server time at which it may go; None: it is kept.
        least_ms: what must be left of that when the TTL is set, however late the command arrives.
    """

    state: RetentionState
    expire_at_ms: int | None = None
    least_ms: int = 0


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """`spec.streams`, made ready for a million looks."""

    ttl: Ttl
    overrides: tuple[tuple[bytes, Ttl], ...]
    terminal: TerminalRules
    failed: frozenset[str]
    grace_ms: int
    keep_entries: int | None
    feeds: FeedSpec

    @classmethod
    def of(cls, streams: Streams) -> RetentionRules:
        """Raises nothing: a `Streams` that exists is valid."""
        longest_first = sorted(streams.overrides, key=lambda one: -len(one.prefix))
        return cls(
            ttl=streams.ttl,
            overrides=tuple(
                (one.prefix.encode(), streams.ttl_of(one.prefix)) for one in longest_first
            ),
            terminal=TerminalRules(
                frozenset(streams.terminal_statuses), frozenset(streams.terminal_types)
            ),
            failed=frozenset(streams.failed_statuses),
            grace_ms=max(GRACE_S, 2 * streams.pace.interval_s) * 1000,
            keep_entries=streams.trim.finished_entries,
            feeds=streams.feeds,
        )

    def ttl_of(self, key: bytes) -> Ttl:
        """The times for this stream: those of the longest prefix that fits."""
        for prefix, ttl in self.overrides:
            if key.startswith(prefix):
                return ttl
        return self.ttl

    def judge(self, look: Look, liveness: Liveness, now_ms: int) -> Judged:
        """The state of a stream, and until when it is kept. `now_ms` is the server's time."""
        if look.is_foreign:
            return Judged(RetentionState.FOREIGN)
        ttl = self.ttl_of(look.key)
        age_ms = age_of(look, now_ms)
        # What a feed lists ends nothing, whatever its data says.
        state = None if look.is_feed else self.end_of(look.entry)
        if state is not None:
            seconds = ttl.failed_s if state is RetentionState.FAILED else ttl.finished_s
        elif age_ms is None or look.other_pending or is_watched(look, liveness):
            return Judged(RetentionState.RUNNING)
        else:
            has_group = look.group is not None or look.other_groups > 0
            state, seconds = (
                (RetentionState.IDLE, ttl.idle_s)
                if has_group
                else (RetentionState.ORPHAN, ttl.orphan_s)
            )
            if seconds == 0 or age_ms < 1000 * seconds:
                return Judged(RetentionState.RUNNING)
        if seconds == 0:
            return Judged(state)
        kept_ms = 1000 * seconds
        left_ms = kept_ms if age_ms is None else kept_ms - age_ms
        grace_ms = min(self.grace_ms, kept_ms)
        return Judged(state, now_ms + max(left_ms, grace_ms), grace_ms // 2)

    def end_of(self, entry: Entry | None) -> RetentionState | None:
        """FINISHED or FAILED when this entry ends the operation."""
        if entry is None or not self.terminal.is_terminal(entry):
            return None
        said = {entry.type.rpartition("_")[2]} if entry.type in self.terminal.types else set()
        if entry.status is not None:
            said.add(entry.status)
        return RetentionState.FAILED if said & self.failed else RetentionState.FINISHED


def age_of(look: Look, now_ms: int) -> int | None:
    """Milliseconds since the last write; None when the ids are no times."""
    if not OLDEST_TIME_MS <= look.last.ms <= now_ms + AHEAD_MS:
        return None
    return max(0, now_ms - look.last.ms)


def is_watched(look: Look, liveness: Liveness) -> bool:
    """Whether a viewer may be there: a replica is on the relay channel, or a consumer is not known
    to be dead.
    """
    if look.subscribers:
        return True
    group = look.group
    if group is None:
        return False
    return not group.all_told or not all(liveness.is_dead(one) for one in group.consumers)
