"""The sweep: over all streams of all primaries, one primary at a time, and again.

    connect --> streams --cursor 0--> pressure --> slots --cursor 0--> next primary, or the report
       ^__________________________ Redis lost: the same page again __________________________|

`tick` does one bounded piece: a page of SCAN, a look at each stream in it, and what has to be done
about them. It can be cancelled at any await; whatever it leaves is found again by the next tick,
since its place moves on only when a page is done with. Redis lost, a failover or a moved slot costs
a repeated page, or a repeated primary where another process answers: a SCAN cursor is worth nothing
there.

Before anything that changes something is sent, the fence is asked, in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import structlog

from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.model.settings import RedisSettings
from tidegate.redis.address import Node
from tidegate.redis.batches import end_if_cancelled, run_script
from tidegate.redis.pods import CLOCK_KEY, PODS_KEY
from tidegate.redis.slots import KEY_PREFIX as SLOTS_PREFIX
from tidegate.redis.topology import Topology
from tidegate_operator.model.streams import Streams
from tidegate_operator.redis import lua
from tidegate_operator.redis.looking import LOOK_COST, SCRIPT_COST, look_at, with_subscribers
from tidegate_operator.redis.primary import Call, Primary, is_error
from tidegate_operator.redis.replies import read_leases
from tidegate_operator.redis.steps import Act, Names, call_of, count_planned, count_reply
from tidegate_operator.streams.liveness import FRESH_MS, Liveness
from tidegate_operator.streams.look import Look
from tidegate_operator.streams.memory import Candidates, Level, reading_of
from tidegate_operator.streams.pacing import Bucket
from tidegate_operator.streams.plan import Expire, plan
from tidegate_operator.streams.report import PrimaryMemory, Report, Tally
from tidegate_operator.streams.retention import Judged, Retention, State, age_of, is_watched

log = structlog.get_logger(__name__)

#: Scripts of one pipeline: half a millisecond of Redis.
BATCH = 50
#: A SCAN costs Redis as much as so many commands for each key that it passes (measured: 0.4 to 0.7
#: us for a key, 1.2 to 1.7 for a command).
SCAN_KEY_COST = 1 / 3
#: The view of who lives is renewed this often.
LIVENESS_S = 1.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 5.0

_SLOT = re.compile(rb"(\S+) [0-9]+")


class Fenced(TidegateError):
    """The fence said no: nothing that changes anything was sent after it."""


class Phase(Enum):
    """What is done on a primary."""

    STREAMS = "streams"
    PRESSURE = "pressure"
    SLOTS = "slots"


class Progress(NamedTuple):
    """Where a round is.

    Attributes:
        node: the primary it is at, None before the first.
        phase: what it does there.
        fraction: of that primary, by its number of keys: an estimate.
        done: primaries that are behind it.
        primaries: that are known.
        tally: counts so far; not to be changed.
    """

    node: str | None
    phase: Phase
    fraction: float
    done: int
    primaries: int
    tally: Tally


@dataclass(slots=True)
class _Round:
    """A round under way: `run_id` says whose cursor it is."""

    began: float
    began_at_ms: int = 0
    done: set[Node] = field(default_factory=set)
    node: Node | None = None
    run_id: str = ""
    phase: Phase = Phase.STREAMS
    cursor: int = 0
    keys: int = 0
    passed: int = 0
    level: Level = Level.UNKNOWN
    candidates: Candidates = field(default_factory=Candidates)
    interruptions: int = 0
    commands: int = 0
    pods_known: bool = True
    tally: Tally = field(default_factory=Tally)
    memory: dict[Node, PrimaryMemory] = field(default_factory=dict)

    def enter(self, node: Node, run_id: str) -> None:
        """From the beginning of this primary, unless it is the process that the cursor is of."""
        if (node, run_id) != (self.node, self.run_id) or not run_id:
            self.node, self.run_id = node, run_id
            self.phase, self.cursor, self.passed = Phase.STREAMS, 0, 0
            self.candidates = Candidates()

    def leave(self) -> None:
        """This primary is done with."""
        if self.node is not None:
            self.done.add(self.node)
        self.node, self.run_id = None, ""


class Sweep:
    """Call `tick` again and again, from one task; `close` at the end.

    Args:
        topology: where the primaries are.
        settings: how to log in there.
        may_continue: the fence: whether this process may still change anything.
        kubernetes_pods: the names of all pods that exist, None when that is not known now. Left
            out: there is no Kubernetes, and who has no lease is dead.
        lease_s: the gateway's `slots.lease_s`.
        fresh_s: a consumer that read within this time is alive, whatever else is said.
        clock: seconds, only differences count.
    """

    def __init__(
        self,
        topology: Topology,
        settings: RedisSettings,
        *,
        may_continue: Callable[[], bool] = lambda: True,
        kubernetes_pods: Callable[[], Collection[str] | None] | None = None,
        lease_s: float = 15.0,
        fresh_s: float = FRESH_MS / 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._may_continue = may_continue
        self._kubernetes_pods = kubernetes_pods
        self._lease_ms = int(lease_s * 1000)
        self._fresh_ms = int(fresh_s * 1000)
        self._clock = clock
        self._streams: Streams | None = None
        self._retention = Retention.of(Streams())
        self._names = Names.of(Streams().group)
        self._commands = Bucket(1, clock())
        self._changes = Bucket(1, clock())
        self._primary: Primary | None = None
        self._round: _Round | None = None
        self._liveness = Liveness(None)
        self._liveness_until = 0.0
        self.last_report: Report | None = None

    # -- what callers do ---------------------------------------------------------------------------

    async def tick(self, streams: Streams) -> Report | None:
        """One bounded piece of work; the report when it ended a round.

        Args:
            streams: the spec. Another one than at the last tick holds from here on, with another
                prefix or group from the beginning of a round.

        Raises:
            RedisUnavailable: try again after a moment; the round goes on.
            Fenced: this process may not change anything now.
        """
        self._use(streams)
        if self._round is None:
            await self._drop()
            self._round = _Round(self._clock())
        try:
            report = await self._advance(self._round, streams)
        except RedisUnavailable:
            self._round.interruptions += 1
            await self._drop()
            raise
        except asyncio.CancelledError:
            await self._drop()
            raise
        if report is not None:
            self._round, self.last_report = None, report
        end_if_cancelled()
        return report

    async def round(
        self,
        streams: Streams,
        *,
        patience_s: float = 60.0,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Report:
        """Ticks until a round is through; goes on after Redis was away. `on_tick` after each one.

        Raises:
            RedisUnavailable: it was away for `patience_s` at a stretch.
            Fenced: see `tick`.
        """
        wait_s, away_since = BACKOFF_MIN_S, None
        while True:
            try:
                report = await self.tick(streams)
            except RedisUnavailable as error:
                now = self._clock()
                away_since = now if away_since is None else away_since
                if now - away_since + wait_s > patience_s:
                    raise
                log.warning("sweep interrupted", reason=str(error), retry_s=round(wait_s, 2))
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
                wait_s = min(2 * wait_s, BACKOFF_MAX_S)
                continue
            wait_s, away_since = BACKOFF_MIN_S, None
            on_tick()
            if report is not None:
                return report

    def forget(self) -> None:
        """The next tick begins a new round."""
        self._round = None

    def progress(self) -> Progress:
        """Where it is."""
        at = self._round or _Round(0.0)
        fraction = min(1.0, at.passed / at.keys) if at.keys else 0.0
        node = None if at.node is None else str(at.node)
        known = len(self._topology.primaries())
        return Progress(node, at.phase, fraction, len(at.done), known, at.tally)

    async def close(self) -> None:
        """Close the connection; the topology is the caller's."""
        await self._drop()

    # -- a round -----------------------------------------------------------------------------------

    def _use(self, streams: Streams) -> None:
        before, self._streams = self._streams, streams
        if before is streams:
            return
        if before is not None and before == streams:
            return
        self._retention = Retention.of(streams)
        self._names = Names.of(streams.group)
        self._commands.change(streams.pace.commands_per_s)
        self._changes.change(streams.pace.changes_per_s)
        if before and (before.prefix, before.group) != (streams.prefix, streams.group):
            self._round = None

    async def _advance(self, at: _Round, streams: Streams) -> Report | None:
        primary = self._primary or await self._connect(at, streams)
        if primary is None:
            return self._report(at, streams)
        before = primary.commands
        try:
            match at.phase:
                case Phase.STREAMS:
                    await self._page_of_streams(at, primary, streams)
                case Phase.PRESSURE:
                    await self._relieve(at, primary, streams)
                    at.phase = Phase.SLOTS
                case Phase.SLOTS:
                    if await self._page_of_slots(at, primary, streams):
                        at.leave()
                        await self._drop()
        finally:
            at.commands += primary.commands - before
        if self._primary is None and not self._topology.primaries() - at.done:
            return self._report(at, streams)
        return None

    async def _connect(self, at: _Round, streams: Streams) -> Primary | None:
        """The primary that it was at, or the next one; None when all are done."""
        await self._topology.refresh()
        todo = self._topology.primaries() - at.done
        if not todo:
            return None
        node = at.node if at.node in todo else min(todo, key=str)
        self._primary = primary = Primary(node, self._topology.address, self._settings)
        identity = await primary.identity()
        if not identity.is_primary:
            raise RedisUnavailable(f"{node} is a replica")
        at.began_at_ms = at.began_at_ms or await primary.now_ms()
        at.enter(node, identity.run_id)
        at.keys = identity.keys
        at.level = reading_of(identity.memory, streams.memory).level(streams.memory)
        at.commands += primary.commands
        return primary

    async def _drop(self) -> None:
        primary, self._primary = self._primary, None
        if primary is not None:
            await primary.close()

    def _report(self, at: _Round, streams: Streams) -> Report:
        return Report(
            began_at=at.began_at_ms / 1000,
            seconds=self._clock() - at.began,
            dry_run=streams.dry_run,
            interruptions=at.interruptions,
            commands=at.commands,
            pods_known=at.pods_known,
            tally=at.tally,
            memory=tuple(at.memory.values()),
        )

    async def _pace(self, bucket: Bucket, cost: float) -> None:
        wait_s = bucket.take(cost, self._clock())
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _who_lives(self, at: _Round) -> Liveness:
        now = self._clock()
        if now >= self._liveness_until:
            keys = (PODS_KEY, CLOCK_KEY)
            try:
                async with asyncio.timeout(self._settings.reply_timeout_s):
                    reply = await run_script(self._topology, lua.LEASES, keys, ())
            except TimeoutError:
                raise RedisUnavailable("the leases cannot be read in time") from None
            at.commands += 1
            leases = read_leases(reply, self._lease_ms)
            alone = self._kubernetes_pods is None
            exist = None if self._kubernetes_pods is None else self._kubernetes_pods()
            self._liveness = Liveness.of(leases, exist, alone=alone, fresh_ms=self._fresh_ms)
            self._liveness_until = now + LIVENESS_S
        at.pods_known = at.pods_known and self._liveness.names is not None
        return self._liveness

    # -- streams -----------------------------------------------------------------------------------

    async def _page_of_streams(self, at: _Round, primary: Primary, streams: Streams) -> None:
        count = streams.pace.scan_count
        await self._pace(self._commands, count * SCAN_KEY_COST)
        pattern = streams.prefix.encode() + b"*"
        cursor, keys = await primary.scan(at.cursor, pattern, "stream", count)
        seen = Tally()
        for start in range(0, len(keys), BATCH):
            await self._look(at, primary, streams, keys[start : start + BATCH], seen)
        at.tally.add(seen)
        at.cursor, at.passed = cursor, at.passed + count
        if cursor == 0:
            at.phase = Phase.PRESSURE

    async def _look(
        self, at: _Round, primary: Primary, streams: Streams, keys: Sequence[bytes], seen: Tally
    ) -> None:
        liveness = await self._who_lives(at)
        await self._pace(self._commands, len(keys) * LOOK_COST)
        now_ms = await primary.now_ms()
        trims = self._retention.keep_entries is not None
        looks = await look_at(primary, keys, self._names, with_length=trims)
        seen.left["gone"] += len(keys) - len(looks)
        judged = [(look, self._retention.judge(look, liveness, now_ms)) for look in looks]
        judged = await self._asked_whether_watched(primary, judged, liveness, now_ms)
        acts: list[Act] = []
        for look, verdict in judged:
            self._count(look, verdict.state, liveness, now_ms, seen)
            if at.level in (Level.WARN, Level.HIGH):
                at.candidates.add(look, verdict.state)
            acts += [Act(look, step) for step in plan(look, verdict, self._retention, liveness)]
        await self._act(at, primary, streams, acts)

    async def _asked_whether_watched(
        self,
        primary: Primary,
        judged: list[tuple[Look, Judged]],
        liveness: Liveness,
        now_ms: int,
    ) -> list[tuple[Look, Judged]]:
        """Those that would go because nobody watches are looked at once more: a replica on the
        relay channel is a watcher, too.
        """
        quiet = [look for look, verdict in judged if verdict.state in (State.IDLE, State.ORPHAN)]
        if not quiet:
            return judged
        await self._pace(self._commands, len(quiet))
        again = await with_subscribers(primary, quiet)
        rest = [row for row in judged if row[1].state not in (State.IDLE, State.ORPHAN)]
        return rest + [(look, self._retention.judge(look, liveness, now_ms)) for look in again]

    def _count(
        self, look: Look, state: State, liveness: Liveness, now_ms: int, seen: Tally
    ) -> None:
        seen.streams[state] += 1
        if age_of(look, now_ms) is None:
            seen.undatable += 1
        if look.group is not None and look.group.lag and is_watched(look, liveness):
            seen.undispatched += look.group.lag

    async def _act(
        self, at: _Round, primary: Primary, streams: Streams, acts: Sequence[Act]
    ) -> None:
        if streams.dry_run:
            for act in acts:
                count_planned(act, at.tally)
            return
        for start in range(0, len(acts), BATCH):
            batch = acts[start : start + BATCH]
            await self._pace(self._commands, len(batch) * SCRIPT_COST)
            await self._pace(self._changes, len(batch))
            calls = [call_of(act, self._names) for act in batch]
            self._check_fence()
            replies = await primary.run(calls)
            for act, reply in zip(batch, replies, strict=True):
                count_reply(act, reply, at.tally)

    def _check_fence(self) -> None:
        end_if_cancelled()
        if not self._may_continue():
            raise Fenced("this operator may not change anything now: another one leads")

    # -- memory ------------------------------------------------------------------------------------

    async def _relieve(self, at: _Round, primary: Primary, streams: Streams) -> None:
        """Shorten TTLs where the primary is too full now."""
        await self._pace(self._commands, 2)
        identity = await primary.identity()
        memory = streams.memory
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
            await self._act(at, primary, streams, acts)
        at.memory[primary.node] = PrimaryMemory(str(primary.node), reading, level)

    # -- slots -------------------------------------------------------------------------------------

    async def _page_of_slots(self, at: _Round, primary: Primary, streams: Streams) -> bool:
        """A page of users' slots; True after the last."""
        liveness = await self._who_lives(at)
        if liveness.order == 0:
            return True  # nobody can be said to be dead
        count = streams.pace.scan_count
        await self._pace(self._commands, count * SCAN_KEY_COST)
        cursor, keys = await primary.scan(at.cursor, SLOTS_PREFIX + b"*", "hash", count)
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            await self._pace(self._commands, len(batch))
            values = await primary.values(batch)
            calls = []
            for key, rows in zip(batch, values, strict=True):
                dead = () if is_error(rows) else _dead_incarnations(rows, liveness)
                if dead:
                    calls.append(Call(lua.PURGE_SLOTS, key, dead))
            await self._purge(at, primary, streams, calls)
        at.cursor = cursor
        return cursor == 0

    async def _purge(
        self, at: _Round, primary: Primary, streams: Streams, calls: Sequence[Call]
    ) -> None:
        if streams.dry_run or not calls:
            at.tally.done["slot_users"] += len(calls)
            return
        await self._pace(self._commands, len(calls) * SCRIPT_COST)
        await self._pace(self._changes, len(calls))
        self._check_fence()
        for reply in await primary.run(calls):
            if is_error(reply):
                at.tally.left["refused"] += 1
            else:
                at.tally.done["slots"] += reply
                at.tally.done["slot_users"] += 1


def _dead_incarnations(rows: Sequence[bytes], liveness: Liveness) -> tuple[str, ...]:
    found = {match[1].decode(errors="replace") for row in rows if (match := _SLOT.fullmatch(row))}
    return tuple(sorted(one for one in found if liveness.is_dead_incarnation(one)))
