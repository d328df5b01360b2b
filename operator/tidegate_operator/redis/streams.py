"""The sweep's work on streams: a page of SCAN, a look at each stream in it, and what has to be
done about them.

Where a primary is too full, TTLs of the largest that it came by are shortened, finished ones first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from tidegate.model.errors import TidegateError
from tidegate_operator.model.streams import Streams
from tidegate_operator.redis.leases import LeaseView
from tidegate_operator.redis.looking import (
    LOOK_COST,
    SCRIPT_COST,
    look_at,
    with_bounds,
    with_subscribers,
)
from tidegate_operator.redis.primary import BATCH, SCAN_KEY_COST, PrimaryClient
from tidegate_operator.redis.rate_limiter import SweepRateLimiter
from tidegate_operator.redis.round import Round
from tidegate_operator.redis.steps import Act, GroupNames, call_of, count_planned, count_reply
from tidegate_operator.streams.liveness import Liveness
from tidegate_operator.streams.look import Look
from tidegate_operator.streams.memory import Level, reading_of
from tidegate_operator.streams.plan import Expire, plan
from tidegate_operator.streams.report import PrimaryMemory, Tally
from tidegate_operator.streams.retention import (
    Judged,
    RetentionRules,
    RetentionState,
    age_of,
    is_watched,
)

log = structlog.get_logger(__name__)

#: Of a key, in the log.
SHOWN_BYTES = 200


class StreamPages:
    """For one sweep and one spec."""

    def __init__(
        self,
        streams: Streams,
        limiter: SweepRateLimiter,
        leases: LeaseView,
        *,
        is_gone: bool = False,
    ) -> None:
        self._streams = streams
        self._is_gone = is_gone
        self._limiter = limiter
        self._leases = leases
        self._retention = RetentionRules.of(streams)
        self._names = GroupNames.of(streams.group)

    async def page(self, at: Round, primary: PrimaryClient) -> bool:
        """A page of streams; True after the last. Raises RedisUnavailable, Fenced."""
        streams = self._streams
        count = streams.pace.scan_count
        await self._limiter.commands(count * SCAN_KEY_COST)
        pattern = streams.prefix.encode() + b"*"
        cursor, keys = await primary.scan(at.cursor, pattern, "stream", count)
        seen = Tally()
        for start in range(0, len(keys), BATCH):
            await self._look_or_leave(at, primary, keys[start : start + BATCH], seen)
        at.tally.add(seen)
        at.cursor, at.passed = cursor, at.passed + count
        return cursor == 0

    async def relieve(self, at: Round, primary: PrimaryClient) -> None:
        """Shorten TTLs where the primary is too full now. Raises RedisUnavailable, Fenced."""
        await self._limiter.commands(2)
        identity = await primary.identity()
        memory = self._streams.memory
        reading = reading_of(identity.memory, memory)
        level = reading.level(memory)
        if level is Level.HIGH:
            now_ms = await primary.now_ms()
            kept_ms = 1000 * memory.shortened_s
            at_ms = now_ms + kept_ms
            acts = [
                Act(look, Expire(state, at_ms, kept_ms // 2, unwatched=False), shortens=True)
                for look, state in at.candidates.to_free(reading.excess(memory), at_ms)
            ]
            log.warning(
                "redis is nearly full",
                node=str(primary.node),
                used=reading.used,
                limit=reading.limit,
                shortening=len(acts),
            )
            await self._act(at, primary, acts)
        at.memory[primary.node] = PrimaryMemory(str(primary.node), reading, level)

    # -- inside ------------------------------------------------------------------------------------

    async def _look_or_leave(
        self, at: Round, primary: PrimaryClient, keys: Sequence[bytes], seen: Tally
    ) -> None:
        """A stream that we stumble over must not keep those behind it from ever being swept."""
        counts = Tally()
        try:
            await self._look(at, primary, keys, counts)
        except TidegateError:
            raise
        except Exception:
            if len(keys) > 1:
                for key in keys:
                    await self._look_or_leave(at, primary, [key], seen)
                return
            if not at.tally.left["failed"] + seen.left["failed"]:  # the first one of a round
                log.exception("failed to sweep a stream, skipping it", key=keys[0][:SHOWN_BYTES])
            counts = Tally(left=Counter(failed=1))
        seen.add(counts)

    async def _look(
        self, at: Round, primary: PrimaryClient, keys: Sequence[bytes], seen: Tally
    ) -> None:
        liveness = await self._leases.look(at)
        await self._limiter.commands(len(keys) * LOOK_COST)
        now_ms = await primary.now_ms()
        trims = self._retention.keep_entries is not None
        looks = await look_at(primary, keys, self._names, with_length=trims)
        seen.left["gone"] += len(keys) - len(looks)
        looks = await self._with_bounds_of_feeds(primary, looks)
        judged = [(look, self._retention.judge(look, liveness, now_ms)) for look in looks]
        judged = await self._asked_whether_watched(primary, judged, liveness, now_ms)
        acts: list[Act] = []
        for look, verdict in judged:
            _count(look, verdict.state, liveness, now_ms, seen)
            if at.level in (Level.WARN, Level.HIGH):
                at.candidates.add(look, verdict.state)
            steps = plan(look, verdict, self._retention, liveness, now_ms, is_gone=self._is_gone)
            acts += [Act(look, step) for step in steps]
        await self._act(at, primary, acts)

    async def _with_bounds_of_feeds(self, primary: PrimaryClient, looks: list[Look]) -> list[Look]:
        """Of the others it is not asked for: there may be a million, and most need no trimming."""
        feeds = [look for look in looks if look.is_feed]
        if not feeds:
            return looks
        await self._limiter.commands(2 * len(feeds))
        bounded = {look.key: look for look in await with_bounds(primary, feeds)}
        return [bounded.get(look.key, look) for look in looks]

    async def _asked_whether_watched(
        self,
        primary: PrimaryClient,
        judged: list[tuple[Look, Judged]],
        liveness: Liveness,
        now_ms: int,
    ) -> list[tuple[Look, Judged]]:
        """Those that would go because nobody watches are looked at once more: a replica on the
        relay channel is a watcher, too.
        """
        quiet = [
            look
            for look, verdict in judged
            if verdict.state in (RetentionState.IDLE, RetentionState.ORPHAN)
        ]
        if not quiet:
            return judged
        await self._limiter.commands(len(quiet))
        again = await with_subscribers(primary, quiet)
        rest = [
            row
            for row in judged
            if row[1].state not in (RetentionState.IDLE, RetentionState.ORPHAN)
        ]
        return rest + [(look, self._retention.judge(look, liveness, now_ms)) for look in again]

    async def _act(self, at: Round, primary: PrimaryClient, acts: Sequence[Act]) -> None:
        if self._streams.dry_run:
            for act in acts:
                count_planned(act, at.tally)
            return
        for start in range(0, len(acts), BATCH):
            batch = acts[start : start + BATCH]
            await self._limiter.commands(len(batch) * SCRIPT_COST)
            await self._limiter.changes(len(batch))
            calls = [call_of(act, self._names) for act in batch]
            self._limiter.check()
            replies = await primary.run(calls)
            for act, reply in zip(batch, replies, strict=True):
                count_reply(act, reply, at.tally)


def _count(look: Look, state: RetentionState, liveness: Liveness, now_ms: int, seen: Tally) -> None:
    seen.streams[state] += 1
    if age_of(look, now_ms) is None:
        seen.undatable += 1
    if look.group is not None and look.group.lag and is_watched(look, liveness):
        seen.undispatched += look.group.lag
