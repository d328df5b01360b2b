"""The connections of users that this replica has, and their slots in Redis.

A connection's slot is a field of its user's hash. It is taken by one atomic script and released in
batches. In addition, every user's hash is compared with the connections here once per round, and at
once when Redis reconnects or the lease had expired: missing slots are taken again (or reported to
`on_over` if the limit is reached by now), surplus ones are removed, and the key's TTL starts again.
So a lost reply or write leaves neither a slot without a connection nor a connection without a slot
for longer than that.

Order matters in one place only: releases and comparisons of this replica are sent by one task, one
after the other. A command whose reply was lost may be executed any time later; its user stays
*in doubt* and is compared until that cannot be any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import structlog

from tidegate.core.backoff import Backoff
from tidegate.core.bounds import SLOT_USE
from tidegate.core.histogram import Histogram
from tidegate.core.slots import Full, Replaced, Taken, Verdict, Victim
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.batches import BATCH, Batches, end_if_cancelled
from tidegate.redis.pods import Pods
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

#: A user is compared once per so many leases: 20,000 users cost 333 scripts a second at 15 s.
ROUND_LEASES = 4
#: A hash that no replica has a connection in is gone after so many leases (5 min at 15 s). Five
#: rounds: a replica that renews its lease cannot miss that many comparisons in a row.
TTL_LEASES = 5 * ROUND_LEASES
#: In doubt for so long after the last sign that Redis could be late.
DOUBT_LEASES = 2
TICK_S = 0.25
#: A refusal is not based on a view older than this; so often at the most refusals cause a look.
VIEW_FRESH_S = 0.5
#: Between two batches of users that are asserted again: 6,400 a second at the most.
PACE_S = 0.01


class SlotStats(NamedTuple):
    """What is held here; counters only grow."""

    users: int
    connections: int
    unsettled: int
    counts: dict[str, int]


class HeldSlots(NamedTuple):
    """A user's connections here, and the greatest limit of their tokens."""

    connections: int
    limit: int


class StoredSlot(NamedTuple):
    """One of a user's slots as Redis has it. `is_live`: its replica has a lease."""

    connection: str
    incarnation: str
    since_ms: int
    is_live: bool


class _Seat:
    """One connection. `since_ms` is 0 while the server has not told it."""

    __slots__ = ("limit", "since_ms")

    def __init__(self, limit: int, since_ms: int) -> None:
        self.limit = limit
        self.since_ms = since_ms


class _User:
    __slots__ = ("doubt_until", "seats")

    def __init__(self) -> None:
        self.seats: dict[str, _Seat] = {}
        #: Set while a command about it may still be executed; only a comparison after it ends it.
        self.doubt_until: float | None = None


class RedisSlots:
    """Implements `SlotKeeper`. `run` until cancelled; `leave` gives everything back."""

    def __init__(
        self,
        topology: Topology,
        pods: Pods,
        settings: Settings,
        on_over: Callable[[str, tuple[str, ...]], None],
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`on_over` gets a user and those of its connections that have to go (4429)."""
        self._prefix = topology.names.slots_prefix
        self._pods = pods
        self._settings = settings
        self._on_over = on_over
        self._clock = clock or asyncio.get_running_loop().time
        self.batches = Batches(topology, timeout_s=settings.slots.wait_s)
        self._users: dict[str, _User] = {}
        #: Users to compare now, and the rest of this round.
        self._urgent: dict[str, None] = {}
        self._round: deque[str] = deque()
        self._owed = 0.0
        self._to_release: dict[str, set[str]] = {}
        self._wake = asyncio.Event()
        self._leaving = False
        self.counts: Counter[str] = Counter()
        #: A user's connections over the limit, at each connect.
        self.use = Histogram(SLOT_USE)
        pods.on_return = self.reassert

    # -- SlotKeeper --------------------------------------------------------------------------------

    async def take(self, user: str, connection: str, limit: int | None = None) -> Verdict:
        """See `SlotKeeper.take`."""
        slots = self._settings.slots
        if limit is None:
            limit = slots.limit
        if limit <= 0:
            return Taken(0)
        if self._leaving:
            raise RedisUnavailable("this replica is releasing its slots")
        self._forget_release(user, connection)
        try:
            async with asyncio.timeout(slots.wait_s):
                incarnation = await self._pods.ensure()
                returns = self._pods.returns
                count, since_ms, victims, taken = await self._take(
                    user, connection, limit, incarnation
                )
                if not taken and await self._pods.look_again(VIEW_FRESH_S):
                    # A replica that died since the last look may hold the slots that it is about.
                    incarnation = await self._pods.ensure()
                    count, since_ms, victims, taken = await self._take(
                        user, connection, limit, incarnation
                    )
        except (RedisUnavailable, TimeoutError):
            self.counts["unavailable"] += 1
            self._doubt(user, connection)
            self._pods.kick()
            raise RedisUnavailable("slots are unavailable at the moment") from None
        except BaseException:  # the viewer has gone meanwhile
            self._doubt(user, connection)
            raise
        self.use.observe(count / limit)
        if not taken:
            self.counts["full"] += 1
            return Full(count, limit)
        self._users.setdefault(user, _User()).seats[connection] = _Seat(limit, since_ms)
        if returns != self._pods.returns:
            self._make_urgent(user)  # the lease lapsed, or the primary moved, while it was away
        self.counts["taken"] += 1
        if victims:
            self.counts["replaced"] += len(victims)
            return Replaced(count, victims)
        return Taken(count)

    def take_locally(self, user: str, connection: str, limit: int | None = None) -> Taken | Full:
        """See `SlotKeeper.take_locally`."""
        if limit is None:
            limit = self._settings.slots.limit
        if limit <= 0:
            return Taken(0)
        seats = self._users[user].seats if user in self._users else {}
        if connection not in seats and len(seats) >= limit:
            self.counts["full"] += 1
            return Full(len(seats), limit)
        self._forget_release(user, connection)
        seats = self._users.setdefault(user, _User()).seats
        seats.setdefault(connection, _Seat(limit, 0))
        self._make_urgent(user)
        self.counts["taken_locally"] += 1
        return Taken(len(seats))

    def release(self, user: str, connection: str) -> None:
        """See `SlotKeeper.release`."""
        known = self._users.get(user)
        if known is not None and known.seats.pop(connection, None) is not None:
            self._queue_release(user, connection)
            self._drop_if_settled(user)

    # -- life cycle --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep Redis in agreement with what is here."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.batches.run(), name="slot batches")
            tasks.create_task(self._keep(), name="slot rounds")

    def reassert(self) -> None:
        """Redis is back, or has forgotten this replica: compare every user, soon."""
        for name, user in self._users.items():
            if user.doubt_until is not None:
                self._extend_doubt(user)
            self._urgent[name] = None
        self._wake.set()

    async def leave(self) -> None:
        """Give back every slot, in batches.

        Raises:
            RedisUnavailable: the rest is free when the lease is given up or lapses.
        """
        self._leaving = True
        for name, user in tuple(self._users.items()):
            for connection in tuple(user.seats):
                self.release(name, connection)
        while self._to_release:
            await self._flush()

    async def turn(self) -> bool:
        """One piece of the work that waits; False when there is none.

        Raises:
            RedisUnavailable: the work waits on.
        """
        if self._to_release:
            await self._flush()
        elif self._urgent:
            await self._compare(list(islice(self._urgent, BATCH)))
        else:
            return False
        return True

    def users(self) -> list[str]:
        """Those with connections here, for looking only."""
        return list(self._users)

    def held(self, user: str) -> HeldSlots:
        """What a user has here."""
        known = self._users.get(user)
        seats = () if known is None else known.seats.values()
        return HeldSlots(len(seats), max((seat.limit for seat in seats), default=0))

    async def stored(self, user: str) -> list[StoredSlot]:
        """A user's slots over all replicas, the oldest first.

        Raises:
            RedisUnavailable: within `slots.wait_s`.
        """
        fields = await self.batches.command("HGETALL", self._key(user))
        view = self._pods.view()
        found = []
        for connection, value in fields.items():
            incarnation, _, since = value.decode(errors="replace").partition(" ")
            is_live = not view.order or incarnation in view.live
            since_ms = int(since) if since.isdecimal() and len(since) < 20 else 0
            name = connection.decode(errors="replace")
            found.append(StoredSlot(name, incarnation, since_ms, is_live))
        return sorted(found, key=lambda slot: slot.since_ms)

    def stats(self) -> SlotStats:
        """What is held here."""
        return SlotStats(
            len(self._users),
            sum(len(user.seats) for user in self._users.values()),
            len(self._urgent) + sum(map(len, self._to_release.values())),
            dict(self.counts),
        )

    # -- the one task that sends releases and comparisons ------------------------------------------

    async def _keep(self) -> None:
        loop, redis = asyncio.get_running_loop(), self._settings.redis
        backoff, before = Backoff(redis.backoff_min_s, redis.backoff_max_s), loop.time()
        while not self._leaving:
            self._wake.clear()
            now = loop.time()
            self.go_round(now - before)
            before = now
            try:
                while await self.turn():
                    backoff.reset()
                    end_if_cancelled()
                    await asyncio.sleep(PACE_S if self._urgent else 0)
            except RedisUnavailable:
                self._pods.kick()
                end_if_cancelled()
                await asyncio.sleep(backoff.next_s())
                continue
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def go_round(self, elapsed_s: float) -> None:
        """The users whose turn it is after this time."""
        if not self._round:
            self._round.extend(self._users)
        self._owed += len(self._users) * elapsed_s / (ROUND_LEASES * self._settings.slots.lease_s)
        self._owed = min(self._owed, len(self._round))
        while self._owed >= 1:
            self._owed -= 1
            self._urgent[self._round.popleft()] = None

    async def _flush(self) -> None:
        """A batch of releases. Deleting a field twice does no harm."""
        users = list(islice(self._to_release, BATCH))
        sent = {name: self._to_release.pop(name) for name in users}
        done = await asyncio.gather(
            *(
                self.batches.command("HDEL", self._key(name), *connections)
                for name, connections in sent.items()
            ),
            return_exceptions=True,
        )
        failed = False
        for (name, connections), reply in zip(sent.items(), done, strict=True):
            known = self._users.get(name)
            taken_again = set() if known is None else connections & known.seats.keys()
            if taken_again:
                self._make_urgent(name)
            if isinstance(reply, RedisUnavailable):
                failed = True
                for connection in connections - taken_again:
                    self._queue_release(name, connection)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                self.counts["released"] += len(connections)
        if failed:
            raise RedisUnavailable("slots cannot be released at the moment")

    async def _compare(self, names: list[str]) -> None:
        incarnation = await self._pods.ensure()
        for name in names:
            self._urgent.pop(name, None)
        now = self._clock()
        known = [name for name in names if name in self._users]
        done = await asyncio.gather(
            *(self._sync(name, self._users[name], incarnation) for name in known),
            return_exceptions=True,
        )
        failed = False
        for name, above in zip(known, done, strict=True):
            user = self._users.get(name)
            if isinstance(above, RedisUnavailable):
                failed = True
                if user is None:
                    user = self._users[name] = _User()
                self._extend_doubt(user)  # it may put back what is released by then
                self._urgent[name] = None
            elif isinstance(above, BaseException):
                raise above
            elif user is not None:
                self.counts["compared"] += 1
                self._give_up(name, user, above)
                if user.doubt_until is not None and user.doubt_until <= now:
                    user.doubt_until = None
                self._drop_if_settled(name)
        if failed:
            raise RedisUnavailable("slots cannot be checked at the moment")

    def _give_up(self, name: str, user: _User, above: Iterable[str]) -> None:
        over = tuple(one for one in above if user.seats.pop(one, None) is not None)
        if over:
            self.counts["over"] += len(over)
            log.info("connections above the limit", connections=len(over))
            self._on_over(name, over)

    # -- scripts -----------------------------------------------------------------------------------

    def _head(self, incarnation: str) -> list[lua.Argument]:
        view = self._pods.view()
        ttl_ms = int(TTL_LEASES * self._settings.slots.lease_s * 1000)
        # Without an order nobody is dropped, so nobody has to be named.
        live = view.live if view.order else ()
        return [view.order, incarnation, ttl_ms, len(live), *live]

    async def _take(
        self, user: str, connection: str, limit: int, incarnation: str
    ) -> tuple[int, int, tuple[Victim, ...], bool]:
        replace = int(self._settings.slots.policy == "replace_oldest")
        taken, count, since_ms, lost = await self.batches.script(
            lua.SLOT_TAKE, self._key(user), *self._head(incarnation), connection, limit, replace
        )
        words = [one.decode() for one in lost]
        victims = tuple(map(Victim, words[::2], words[1::2]))
        return count, since_ms, victims, bool(taken)

    async def _sync(self, name: str, user: _User, incarnation: str) -> list[str]:
        # A lease of margin: the clock of the user's primary need not be that of the pods'.
        settled_ms = self._pods.view().now_ms - int(self._settings.slots.lease_s * 1000)
        args = [*self._head(incarnation), settled_ms]
        for connection, seat in user.seats.items():
            args += [connection, seat.limit, seat.since_ms]
        above = await self.batches.script(lua.SLOT_SYNC, self._key(name), *args)
        return [one.decode() for one in above]

    # -- bookkeeping -------------------------------------------------------------------------------

    def _make_urgent(self, user: str) -> None:
        self._urgent[user] = None
        self._wake.set()

    def _queue_release(self, user: str, connection: str) -> None:
        self._to_release.setdefault(user, set()).add(connection)
        self._wake.set()

    def _forget_release(self, user: str, connection: str) -> None:
        waiting = self._to_release.get(user)
        if waiting is not None:
            waiting.discard(connection)
            if not waiting:
                del self._to_release[user]

    def _doubt(self, user: str, connection: str) -> None:
        """Whether this connection has a slot is not known, and it shall have none."""
        known = self._users.setdefault(user, _User())
        known.seats.pop(connection, None)
        self._extend_doubt(known)
        self._queue_release(user, connection)

    def _extend_doubt(self, user: _User) -> None:
        user.doubt_until = self._clock() + DOUBT_LEASES * self._settings.slots.lease_s

    def _drop_if_settled(self, name: str) -> None:
        user = self._users[name]
        if not user.seats and user.doubt_until is None:
            del self._users[name]

    def _key(self, user: str) -> bytes:
        return self._prefix + user.encode("utf-8", "surrogatepass")
