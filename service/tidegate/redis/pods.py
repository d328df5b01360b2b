"""This replica's lease, and its view of which replicas live.

    none --renew--> held --renew, at least every renewal_s--> held
    held --no renewal for lease_s--> lapsed --renew--> held, with a new incarnation

`pod_renew.lua` extends the lease and answers with the view in the same moment, by the server's
clock. A lapsed incarnation is dead forever, here too: what others have decided by an older view
stays true, and no view of theirs can be older than our new birth and still count us dead. So
whoever comes back must assert what it has again (`on_return`). What is promised: an incarnation
that is renewed in time is in every view taken after its birth.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog

from tidegate.core.backoff import Backoff
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.address import Node
from tidegate.redis.batches import end_if_cancelled, run_script
from tidegate.redis.errors import CLIENT_ERRORS, in_words, translate
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

#: A failed connect asks for a renewal at once; a thousand of them ask once in this time.
KICK_MIN_S = 0.1


class ReplicasView(NamedTuple):
    """The pods that lived when it was taken.

    Attributes:
        order: number of the view; who was born with a higher one is unknown to it. 0: it does not
            say who is dead.
        now_ms: the server's time then.
        live: incarnations, one's own among them.
    """

    order: int
    now_ms: int
    live: tuple[str, ...]


class LeaseFigures(NamedTuple):
    """What a pod tells the operator about itself at each renewal.

    Attributes:
        deliveries_per_s: frames written to live viewers, since the last renewal.
        loop_lag_ms: mean lateness of the event loop's timers, since the last renewal.
        undispatched: entries known to wait for dispatch.
    """

    connections: int = 0
    deliveries_per_s: float = 0.0
    loop_lag_ms: float = 0.0
    undispatched: int = 0
    ready: bool = False


class PodRecord(NamedTuple):
    """A live pod as the operator sees it; `figures` by name, empty if it has not told any."""

    incarnation: str
    lease_left_ms: int
    figures: dict[str, str]


class PodStats(NamedTuple):
    """This replica's lease; counters only grow."""

    incarnation: str | None
    held: bool
    pods: int
    counts: dict[str, int]


class Pods:
    """Keeps the lease of this replica. `run` until cancelled, then `leave`."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        *,
        figures: Callable[[], LeaseFigures] = LeaseFigures,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._topology = topology
        self._names = topology.names
        self._settings = settings
        self._figures = figures
        #: Only differences of it are used, and it bounds no promise to others: a clock that jumps
        #: makes this replica renew early or late, which the server then tells it.
        self._clock = clock or asyncio.get_running_loop().time
        #: Called when Redis is back, or had forgotten us: everything must be asserted again.
        self.on_return: Callable[[], None] = lambda: None
        #: Called with each new incarnation of this replica.
        self.on_lease: Callable[[str], None] = lambda _: None
        self._incarnation: str | None = None
        self._token = secrets.token_hex(6)
        self._view = ReplicasView(0, 0, ())
        self._view_until = 0.0
        self._held_until = 0.0
        self._started_ms = 0
        #: How often everything had to be asserted again.
        self.returns = 0
        self._away = False
        self._primaries: set[Node] = set()
        self._left = False
        self._renewing = asyncio.Lock()
        self._kick = asyncio.Event()
        self.counts: Counter[str] = Counter()

    # -- what slots ask ----------------------------------------------------------------------------

    @property
    def incarnation(self) -> str | None:
        """The one that was last renewed; None before the first."""
        return self._incarnation

    @property
    def is_held(self) -> bool:
        """Whether the lease holds, as far as this replica can know."""
        return self._incarnation is not None and self._clock() < self._held_until

    def view(self) -> ReplicasView:
        """The last view; one older than a lease does not say who is dead."""
        if self._clock() < self._view_until:
            return self._view
        return self._view._replace(order=0)

    async def ensure(self) -> str:
        """The incarnation, renewed first if its lease may have lapsed.

        Raises:
            RedisUnavailable: at once when the last renewal failed already, else within `wait_s`.
        """
        while not self.is_held:
            if self._left:
                raise RedisUnavailable("this replica has released its lease")
            if self._away:
                raise RedisUnavailable("Redis is away")
            await self.renew()
        return str(self._incarnation)

    async def look_again(self, older_than_s: float) -> bool:
        """Renew if the view is older than this, because someone is about to be refused by it.

        Returns whether the view is a new one. Raises RedisUnavailable.
        """
        age_s = self._settings.slots.lease_s - (self._view_until - self._clock())
        if age_s < older_than_s:
            return False
        await self.renew()
        return True

    def kick(self) -> None:
        """Redis did not answer someone: find out now. While it is away the pace stays."""
        if not self._away:
            self._kick.set()

    # -- life cycle --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew until cancelled; retries while Redis is away."""
        slots, redis = self._settings.slots, self._settings.redis
        backoff = Backoff(redis.backoff_min_s, redis.backoff_max_s)
        while not self._left:
            self._kick.clear()
            try:
                await self.renew()
                backoff.reset()
                # Early at random, never late: replicas that started together drift apart.
                wait = slots.renewal_s * random.uniform(0.8, 1.0)
            except RedisUnavailable:
                wait = backoff.next_s()
            end_if_cancelled()
            await asyncio.sleep(min(KICK_MIN_S, wait))
            try:
                async with asyncio.timeout(wait):
                    await self._kick.wait()
            except TimeoutError:
                pass

    async def renew(self) -> None:
        """One renewal, and the view that comes with it.

        Raises:
            RedisUnavailable: within `wait_s`.
        """
        slots = self._settings.slots
        async with self._renewing:
            sent = self._clock()
            before = self._incarnation
            args = (
                int(slots.lease_s * 1000),
                before or "",
                self._settings.server.pod,
                self._token,
            )
            try:
                async with asyncio.timeout(slots.wait_s):
                    keys = (self._names.pods, self._names.pods_clock)
                    reply = await run_script(self._topology, lua.POD_RENEW, keys, args)
            except (RedisUnavailable, TimeoutError) as error:
                self._failed(in_words(error))
                raise RedisUnavailable("the lease cannot be renewed") from None
            if self._left:
                return
            # A new primary may lack the last writes, although nothing failed here.
            primaries = self._topology.primaries()
            came_back = self._away or primaries != self._primaries
            self._away, self._primaries = False, primaries
            self._renewed(reply, sent)
            if came_back or self._incarnation != before:
                self._returned(before)
            await self._tell()

    async def leave(self) -> None:
        """Give the lease up: our slots are free from now on. Any number of times.

        Raises:
            RedisUnavailable: within `wait_s`; the lease then lapses by itself.
        """
        self._left = True
        self._kick.set()
        async with self._renewing:
            incarnation, self._incarnation = self._incarnation, None
            if incarnation is None:
                return
            await self._pipeline(
                ("ZREM", self._names.pods, incarnation),
                ("UNLINK", self._names.figures_prefix + incarnation),
            )

    async def end_leases(self, incarnations: Sequence[str]) -> None:
        """End the leases of processes that are known to be dead, which releases their slots.

        Raises:
            RedisUnavailable: Redis did not respond; the leases then expire.
        """
        if incarnations:
            await self._pipeline(("ZREM", self._names.pods, *incarnations))

    async def roster(self) -> list[PodRecord]:
        """All pods with a lease, and their figures.

        Raises:
            RedisUnavailable: within `wait_s`.
        """
        try:
            async with asyncio.timeout(self._settings.slots.wait_s):
                rows = await run_script(self._topology, lua.POD_LIST, (self._names.pods,), ())
        except TimeoutError:
            raise RedisUnavailable("no response in time") from None
        leases = [
            (_text(name), int(left)) for name, left in zip(rows[::2], rows[1::2], strict=True)
        ]
        prefix = self._names.figures_prefix
        told = await self._pipeline(*(("HGETALL", prefix + name) for name, _ in leases))
        return [
            PodRecord(name, left, {_text(key): _text(value) for key, value in figures.items()})
            for (name, left), figures in zip(leases, told, strict=True)
        ]

    def stats(self) -> PodStats:
        """What it is doing now."""
        return PodStats(self._incarnation, self.is_held, len(self._view.live), dict(self.counts))

    # -- inside ------------------------------------------------------------------------------------

    def _renewed(self, reply: Any, sent: float) -> None:
        incarnation, order, now_ms, complete, live = reply
        self.counts["renewals"] += 1
        lease_s = self._settings.slots.lease_s
        self._incarnation = _text(incarnation)
        self._view = ReplicasView(
            int(order) if complete else 0, int(now_ms), tuple(_text(one) for one in live)
        )
        self._started_ms = self._started_ms or int(now_ms)
        self._held_until = self._view_until = sent + lease_s

    def _returned(self, before: str | None) -> None:
        if self._incarnation != before:
            self.on_lease(str(self._incarnation))
            # Taken by the server; the next birth must differ.
            self._token = secrets.token_hex(6)
            if before is not None:
                self.counts["lapses"] += 1
                log.warning(
                    "lease expired; a new one was taken", before=before, now=self._incarnation
                )
            else:
                log.info("lease acquired", incarnation=self._incarnation)
        else:
            log.info("Redis reconnected, or the primary changed", incarnation=self._incarnation)
        self.returns += 1
        self.on_return()

    def _failed(self, reason: str) -> None:
        self.counts["failures"] += 1
        if not self._away:
            log.warning("lease renewal failed", reason=reason)
        self._away = True

    async def _tell(self) -> None:
        """The figures; only the operator reads them, so a failure is no reason to stop."""
        key = self._names.figures_prefix + str(self._incarnation)
        figures = self._figures()
        fields: list[str | int | float] = ["pod", self._settings.server.pod]
        fields += ["started", self._started_ms, "connections", figures.connections]
        fields += ["deliveries_per_s", round(figures.deliveries_per_s, 1)]
        fields += ["loop_lag_ms", round(figures.loop_lag_ms, 2)]
        fields += ["undispatched", figures.undispatched, "ready", int(figures.ready)]
        # Outlives the lease, so that the operator can see what died.
        keep_ms = int(self._settings.slots.lease_s * 4000)
        try:
            await self._pipeline(("HSET", key, *fields), ("PEXPIRE", key, keep_ms))
        except RedisUnavailable:
            self.counts["figures_not_told"] += 1

    async def _pipeline(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Commands about keys with our hash tag."""
        if not commands:
            return []
        client: Any = self._topology.client
        try:
            async with asyncio.timeout(self._settings.slots.wait_s):
                pipeline = client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                replies: list[Any] = await pipeline.execute()
                return replies
        except CLIENT_ERRORS as error:
            raise translate(error) from None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
