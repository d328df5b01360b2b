"""What is to be done about one stream. Each step names the script that does it, in `redis/scripts`.

Order matters: dead consumers go before their group, and the TTL comes first of all, so that what is
cut short by a lost lease has done the most useful thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.model.ids import OLDEST_TIME_MS
from tidegate_operator.model.streams import FeedSpec
from tidegate_operator.streams.liveness import Liveness
from tidegate_operator.streams.look import Look, Mark
from tidegate_operator.streams.retention import Judged, RetentionRules, RetentionState


@dataclass(frozen=True, slots=True)
class Expire:
    """Set a TTL, unless an earlier one applies.

    Attributes:
        state: what it was judged to be.
        at_ms: server time of the expiry.
        least_ms: never sooner than this after the script runs.
        unwatched: only while nobody watches.
        dead: consumers known to be dead; another one means that someone came.
    """

    state: RetentionState
    at_ms: int
    least_ms: int
    unwatched: bool
    dead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revive:
    """Take our own TTL back: the stream runs, is watched, or is someone else's by now."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class TrimEntries:
    """Keep the newest entries of a stream that has ended."""

    keep: int


@dataclass(frozen=True, slots=True)
class TrimFeed:
    """Keep the newest entries of a feed, of these none that are older than an id of this time, and
    the newest of all in any case.
    """

    keep: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class RemoveConsumer:
    """Remove a dead pod's consumer; what it has pending goes to `heir`, or is acknowledged.

    Not if it has read within `fresh_ms`.
    """

    name: str
    heir: str | None
    fresh_ms: int


@dataclass(frozen=True, slots=True)
class RemoveGroup:
    """Remove the gateway's group: the stream has ended, and nobody watches.

    Idle streams keep theirs: it is what tells them from orphans.
    """


@dataclass(frozen=True, slots=True)
class DropGroup:
    """Remove the gateway's group, whatever the stream is: the gateway is gone for good."""


Step = Expire | Revive | TrimEntries | TrimFeed | RemoveConsumer | RemoveGroup | DropGroup


def plan(
    look: Look,
    judged: Judged,
    retention: RetentionRules,
    liveness: Liveness,
    now_ms: int = 0,
    *,
    is_gone: bool = False,
) -> Iterator[Step]:
    """The steps for this stream; none for most of them, once the sweep has been round.

    `is_gone`: the gateway was uninstalled, and nothing of it is to stay.
    """
    if not judged.state.goes and look.mark is not None and look.is_ours:
        yield Revive(look.mark)
    if judged.state is RetentionState.FOREIGN:
        if is_gone and look.group is not None:
            yield DropGroup()
        return
    consumers = () if look.group is None else look.group.consumers
    dead = tuple(one.name for one in consumers if liveness.is_dead(one))
    ended = judged.state in (RetentionState.FINISHED, RetentionState.FAILED)
    if judged.expire_at_ms is not None and _is_due(look, judged.expire_at_ms):
        yield Expire(judged.state, judged.expire_at_ms, judged.least_ms, not ended, dead)
    keep = retention.keep_entries
    if ended and keep is not None and look.length is not None and look.length > keep:
        yield TrimEntries(keep)
    if not ended:
        yield from _trim_of_a_feed(look, retention.feeds, now_ms)
    if is_gone:
        if look.group is not None or look.mark is not None:
            yield DropGroup()
        return
    heir = next((one.name for one in consumers if one.name not in dead), None)
    for name in dead:
        yield RemoveConsumer(name, heir, liveness.fresh_ms)
    if ended and look.group is not None and not look.subscribers and heir is None:
        all_gone = look.group.all_told and len(dead) == len(consumers)
        if all_gone and look.group.pending == sum(one.pending for one in consumers):
            yield RemoveGroup()


def _trim_of_a_feed(look: Look, feeds: FeedSpec, now_ms: int) -> Iterator[Step]:
    """Feeds are asked for their bounds; ids that are no times have no age."""
    if look.length is None or look.first is None or not look.is_feed:
        return
    oldest_ms = max(0, now_ms - 1000 * feeds.max_age_s) if feeds.max_age_s else 0
    is_time = look.first.ms >= OLDEST_TIME_MS
    is_old = is_time and look.length > 1 and look.first.ms < min(oldest_ms, look.last.ms)
    if look.length > feeds.entries or is_old:
        yield TrimFeed(feeds.entries, min(oldest_ms, look.last.ms) if is_time else 0)


def _is_due(look: Look, at_ms: int) -> bool:
    """Whether a TTL has to be set: there is none, it is later, or it was for an older end."""
    if look.expires_at_ms is None or look.expires_at_ms > at_ms:
        return True
    return look.is_ours and look.mark is not None and look.mark.position != look.last
