"""The long run: one durable server, replicas behind proxies, operations that come and go, and harm.

Operations run side by side in lanes. Each has viewers that wait for it before it begins, that come
in the middle, that read slowly, and one that comes when it is over. Every viewer must come to its
end within `END_S` of the terminal entry, whatever is done to it meanwhile. The stage judges nothing
by itself: it hands records and logs to `judge`, and asks the replicas what is left in them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from tests.faults.harm import Harm, Place
from tests.faults.judge import Verdict, Written, judge
from tests.faults.plan import Fault
from tests.faults.publisher import Publisher
from tests.faults.replicas import Replica
from tests.faults.viewer import Address, Lag, Viewer
from tests.harness.ending import ended
from tests.harness.waiting import until
from tests.servers.binaries import Binary
from tests.servers.proxy import Proxy
from tests.servers.standalone import Options, Server

REPLICAS = 3
LANES = 5
ENTRIES_PER_S = 20.0
ENTRIES = (60, 400)
BURST = (40, 250)
BURST_CHANCE = 0.03
END_S = 40.0
RELEASE_S = 30.0
DURABLE = Options(durable=True, config={"appendfsync": "always"})
#: Small bounds, so that rings, pages and buffers are passed in seconds and not in hours.
SETTINGS: dict[str, object] = {
    "redis.reply_timeout_s": 1.5,
    "redis.connect_timeout_s": 1.5,
    "redis.heartbeat_s": 0.5,
    "redis.backoff_max_s": 0.5,
    "dispatch.sweep_s": 3.0,
    "dispatch.max_entries": 40,
    "topic.ring_entries": 64,
    "topic.linger_s": 1.0,
    "viewer.page_entries": 50,
    "viewer.high_water_bytes": 4096,
    "viewer.low_water_bytes": 1024,
    "viewer.notsent_lowat_bytes": 1024,
}
POLICIES = ("conflate", "replay", "conflate")


@dataclass(slots=True)
class Operation:
    """One operation with its viewers; `log` is there when it has finished."""

    publisher: Publisher
    viewers: list[Viewer] = field(default_factory=list)
    log: list[Written] = field(default_factory=list)

    def verdicts(self) -> list[tuple[Viewer, Verdict]]:
        return [(v, judge(v.record, [self.log], v.rules)) for v in self.viewers]


class Stage:
    """Use `open_stage`. `perform` runs a plan to its end."""

    def __init__(self, seed: int, server: Server, places: Sequence[Place]) -> None:
        self.server = server
        self.places = places
        self.operations: list[Operation] = []
        self.harm = Harm(server, places, self._watching, self._streams)
        self._seed = seed
        self._stopping = asyncio.Event()
        self._clients: Any = None

    @property
    def addresses(self) -> list[Address]:
        """Through the proxies."""
        return [Address(place.proxy.host, place.proxy.port) for place in self.places]

    async def perform(self, plan: Sequence[Fault]) -> None:
        """Operations in all lanes while the plan is carried out, and then until all have ended."""
        # A publisher must notice a dead server soon, or it stops publishing during the faults.
        async with self.server.client(socket_timeout=1.0, socket_connect_timeout=1.0) as client:
            self._clients = client
            async with asyncio.TaskGroup() as tasks:
                for lane in range(LANES):
                    tasks.create_task(self._lane(lane), name=f"lane {lane}")
                await self.harm.carry_out(plan)
                self._stopping.set()

    def _watching(self) -> list[Viewer]:
        return [v for op in self.operations for v in op.viewers if not v.ended.is_set()]

    def _streams(self) -> list[str]:
        return [op.publisher.key for op in self.operations if not op.publisher.finished]

    # --- operations

    async def _lane(self, lane: int) -> None:
        number = 0
        while not self._stopping.is_set():
            rng = random.Random(f"lane {self._seed} {lane} {number}")
            await self._operation(f"op-{lane}-{number}", rng)
            number += 1

    async def _operation(self, name: str, rng: random.Random) -> None:
        operation = Operation(Publisher(self._clients, name))
        self.operations.append(operation)
        waiting = self._cast(name, rng)
        count = rng.randint(*ENTRIES)
        joins = sorted(((rng.random() ** 2 * count, viewer) for viewer in waiting[3:]), key=_first)
        tasks = [self._seat(operation, viewer) for viewer in waiting[:3]]
        try:
            written = 0
            while written < count and not self._stopping.is_set():
                while joins and joins[0][0] <= written:
                    tasks.append(self._seat(operation, joins.pop(0)[1]))
                if rng.random() < BURST_CHANCE:
                    burst = rng.randint(*BURST)
                    await operation.publisher.write_many(burst)
                    written += burst // 4
                else:
                    await operation.publisher.write("log" if rng.random() < 0.2 else "progress")
                    written += 1
                await asyncio.sleep(rng.expovariate(ENTRIES_PER_S))
            tasks += [self._seat(operation, viewer) for _, viewer in joins]
            await operation.publisher.finish()
            tasks.append(self._seat(operation, self._viewer(name, "late", rng, history="all")))
            await self._all_ended(operation)
            operation.log = await self._log(operation.publisher)
        finally:
            await ended(tasks)

    def _cast(self, name: str, rng: random.Random) -> list[Viewer]:
        """The first three are there before the operation begins; the others come any time."""
        lags = [Lag(rng.randint(5, 60), rng.uniform(0.3, 3.0)) for _ in range(3)]
        for n in range(1, 3):
            lags[n] = Lag(lags[n - 1].after_entries + lags[n].after_entries, lags[n].seconds)
        return [
            self._viewer(name, "early-0", rng),
            self._viewer(name, "early-1", rng),
            self._viewer(name, "early-slow", rng, lags=lags),
            self._viewer(name, "all", rng),
            self._viewer(name, "newest", rng, history=None),
            self._viewer(name, "newest-5", rng, history="5"),
            self._viewer(name, "live", rng, history="none"),
            self._viewer(name, "slow", rng, lags=lags),
        ]

    def _viewer(
        self,
        operation: str,
        name: str,
        rng: random.Random,
        *,
        history: str | None = "all",
        lags: Sequence[Lag] = (),
    ) -> Viewer:
        # A proxy would read what a slow viewer does not.
        addresses = [place.replica.address for place in self.places] if lags else self.addresses
        rng = random.Random(rng.random())
        return Viewer(
            f"{operation}/{name}", operation, addresses, rng=rng, history=history, lags=lags
        )

    def _seat(self, operation: Operation, viewer: Viewer) -> asyncio.Task[None]:
        operation.viewers.append(viewer)
        return asyncio.get_running_loop().create_task(viewer.run(), name=viewer.name)

    async def _all_ended(self, operation: Operation) -> None:
        """Until all have ended, or should have; their records tell which."""
        try:
            async with asyncio.timeout(END_S):
                for viewer in operation.viewers:
                    await viewer.ended.wait()
        except TimeoutError:
            pass

    async def _log(self, publisher: Publisher) -> list[Written]:
        found: list[Written] = []

        async def read() -> bool:
            try:
                found[:] = await publisher.log()
            except (RedisError, OSError):  # the server is away at this moment
                return False
            return True

        await until(read, "the server does not come back", within_s=END_S)
        return found

    # --- what is left

    async def leftovers(self) -> list[str]:
        """Replicas that died, complain in their log, or hold viewers or operations for ever."""
        found = [mishap for place in self.places for mishap in place.replica.mishaps()]
        for place in self.places:
            replica = place.replica
            if not replica.process.running:
                found.append(f"{replica.pod} is dead:\n{replica.process.log_tail()}")
                continue
            held = await _released(replica)
            if held:
                found.append(f"{replica.pod} still holds {held}")
        return found


async def _released(replica: Replica) -> dict[str, Any]:
    """What it still holds after a while; empty is good."""
    held: dict[str, Any] = {}

    async def nothing() -> bool:
        nonlocal held
        held = _held(await replica.state())
        return not held

    with suppress(AssertionError):
        await until(nothing, within_s=RELEASE_S)
    return held


def _held(state: dict[str, Any]) -> dict[str, Any]:
    numbers = state["numbers"]
    names = ("tidegate_operations", "tidegate_ring_bytes", "tidegate_outbox_items")
    held = {name: numbers[name] for name in names}
    held |= numbers["tidegate_viewers"]
    return {name: count for name, count in held.items() if count}


def _first(pair: tuple[float, Viewer]) -> float:
    return pair[0]


@asynccontextmanager
async def open_stage(seed: int, binary: Binary) -> AsyncIterator[Stage]:
    """A server, and replicas with a proxy on each side."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(binary, DURABLE))
        places = []
        for index in range(REPLICAS):
            link = await stack.enter_async_context(Proxy((server.host, server.port)))
            settings = {**SETTINGS, "viewer.lagging_policy": POLICIES[index % len(POLICIES)]}
            replica = Replica(index, f"redis://{link.address}/0", settings)
            stack.callback(replica.close)
            proxy = await stack.enter_async_context(Proxy((replica.host, replica.port)))
            places.append(Place(replica, proxy, link, random.Random(f"pushes {seed} {index}")))
        await asyncio.gather(*(place.replica.start() for place in places))
        yield Stage(seed, server, places)
