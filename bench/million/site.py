"""The processes of a run: Redis, the replicas, the publisher and the swarms.

No process is pinned to a core: with five busy processes on two cores the scheduler does better.
`Site` also performs the readiness checks of a load balancer: it requests `/readyz` of each replica
and tells the swarms which ones are in rotation.

Invariant: no process of a run outlives the block of `started`.
"""

import asyncio
import contextlib
import os
import resource
import socket
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from bench.balancer import CHECK_EVERY_S, is_ready
from bench.child import Child, running
from bench.errors import NotPossible
from bench.fleet import Replica
from bench.million.memory import Memory, read_memory
from bench.million.pauses import Pauses, read_pauses
from bench.million.scene import Scene
from bench.procfs import cpu_ns, machine_busy_s
from bench.stage import redis_alone

ANSWER_S: Final = 120.0
READY_S: Final = 120.0
#: Added to it for each replica, because all start at the same time.
STARTS_S: Final = 5.0
LOOK_S: Final = 0.25
#: Ports of servers; Linux uses those from 32,768 on for outgoing connections.
QUIET_FIRST: Final = 21_000
QUIET_LAST: Final = 31_000
#: For each further group of this many processes, they are polled less often.
MANY: Final = 8
DRAIN_WINDOW_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds so far, by owner."""

    at_s: float
    servers_s: float
    redis_s: float
    clients_s: float
    machine_s: float

    def since(self, before: "Costs") -> dict[str, float]:
        """Elapsed seconds, and CPU seconds by owner; `others` is everything outside this run."""
        servers, redis, clients, machine = (
            self.servers_s - before.servers_s,
            self.redis_s - before.redis_s,
            self.clients_s - before.clients_s,
            self.machine_s - before.machine_s,
        )
        return {
            "seconds": self.at_s - before.at_s,
            "servers_s": servers,
            "redis_s": redis,
            "clients_s": clients,
            "others_s": max(0.0, machine - servers - redis - clients),
        }


@dataclass(slots=True)
class Tally:
    """The figures of all swarms together."""

    states: Counter[str] = field(default_factory=Counter)
    at: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    last_ns: int = 0
    back_ns: int = 0

    @classmethod
    def of(cls, answers: list[dict[str, Any]]) -> "Tally":
        """The sum of the answers of all swarms."""
        total = cls()
        for answer in answers:
            total.states.update(answer["states"])
            total.at.update({int(place): count for place, count in answer["at"].items()})
            total.happened.update(answer["happened"])
            for name in ("delivered", "missed", "repeated", "returned"):
                total.counts[name] += answer[name]
            total.last_ns = max(total.last_ns, answer["last_ns"])
            total.back_ns = max(total.back_ns, answer["back_ns"])
        return total

    @property
    def open(self) -> int:
        return self.states["open"]


class Site:
    """The running processes."""

    def __init__(
        self,
        scene: Scene,
        folder: Path,
        redis: Child,
        replicas: list[Replica],
        swarms: list[Child],
        publisher: Child,
    ) -> None:
        self.scene = scene
        self.folder = folder
        self.redis = redis
        self.replicas = replicas
        self.swarms = swarms
        self.publisher = publisher
        self._turns = [asyncio.Lock() for _ in swarms]
        self._ended_before_s = _ended_s()

    # --- swarms ---------------------------------------------------------------------------------

    async def ask(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        """Send the same command to every swarm, and return the answers."""

        async def one(index: int) -> dict[str, Any]:
            async with self._turns[index]:
                return await self.swarms[index].ask(do, timeout_s=ANSWER_S, **arguments)

        return list(await asyncio.gather(*(one(index) for index in range(len(self.swarms)))))

    async def tally(self) -> Tally:
        return Tally.of(await self.ask("tally"))

    async def reset(self, deliveries_each: int) -> None:
        """Start counting deliveries and absences at zero."""
        await self.ask("reset", capacity=deliveries_each)

    async def times_s(self) -> tuple[list[float], list[float]]:
        """Delays of deliveries and absences of viewers since `reset`, in seconds, ascending."""
        await asyncio.gather(*(self._save(index) for index in range(len(self.swarms))))
        found: tuple[list[float], list[float]] = ([], [])
        for index in range(len(self.swarms)):
            for values, file in zip(found, self._files(index), strict=True):
                raw = array("q")
                raw.frombytes(file.read_bytes())
                values.extend(value / 1e9 for value in raw)
                file.unlink()
        for values in found:
            values.sort()
        return found

    async def _save(self, index: int) -> None:
        delays, absences = map(str, self._files(index))
        async with self._turns[index]:
            await self.swarms[index].ask(
                "save", timeout_s=ANSWER_S, delays=delays, absences=absences
            )

    def _files(self, index: int) -> tuple[Path, Path]:
        return self.folder / f"delays-{index}", self.folder / f"absences-{index}"

    async def begin(self) -> None:
        """Assign viewers to each swarm; none of them connects yet."""
        each = self.scene.per_swarm
        for index, swarm in enumerate(self.swarms):
            await swarm.ask(
                "begin",
                timeout_s=ANSWER_S,
                swarm=index,
                first=index * each,
                viewers=max(0, min(each, self.scene.viewers - index * each)),
                share=self.scene.crowd,
                operations=self.scene.operations,
            )

    # --- replicas -------------------------------------------------------------------------------

    async def check(self) -> None:
        """Check the readiness of every replica until cancelled, and tell the swarms of changes."""
        known: set[int] = set()
        while True:
            ready = await asyncio.gather(
                *(is_ready(replica.backend.admin_port) for replica in self.replicas)
            )
            for replica, one in zip(self.replicas, ready, strict=True):
                replica.backend.in_rotation = one
            now = {place for place, one in enumerate(ready) if one}
            if now != known:
                known = now
                await self.ask(
                    "rotation",
                    targets=[
                        ("127.0.0.1", self.replicas[place].backend.port, place)
                        for place in sorted(now)
                    ],
                )
                for replica in self.replicas:
                    replica.backend.changed.set()
            await asyncio.sleep(CHECK_EVERY_S * (1 + len(self.replicas) // MANY))

    async def until(self, replica: Replica, *, in_rotation: bool) -> None:
        """Wait until the readiness checks see this. Raises as `Replica.rotation`."""
        within_s = READY_S + STARTS_S * len(self.replicas)
        await replica.rotation(in_rotation=in_rotation, within_s=within_s)

    def alive(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.is_running]

    async def pauses(self) -> Pauses:
        """The pauses of every replica that responds, by pid."""
        found: Pauses = {}

        async def read(replica: Replica) -> None:
            url = f"http://127.0.0.1:{replica.backend.admin_port}/metrics"
            with contextlib.suppress(
                httpx.HTTPError
            ):  # a replica that does not respond is left out
                found[replica.pid] = read_pauses((await client.get(url)).text)

        async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False) as client:
            await asyncio.gather(*map(read, self.alive()))
        return found

    # --- costs ----------------------------------------------------------------------------------

    def costs(self) -> Costs:
        """The CPU time used so far.

        Raises:
            ProcessFailed: a process has exited unexpectedly.
        """
        for child in (self.redis, self.publisher, *self.swarms):
            child.check()
        for replica in self.alive():
            replica.check()
        clients = (*self.swarms, self.publisher)
        return Costs(
            at_s=time.monotonic(),
            servers_s=sum(cpu_ns(one.pid) for one in self.alive()) / 1e9
            + _ended_s()
            - self._ended_before_s,
            redis_s=cpu_ns(self.redis.pid) / 1e9,
            clients_s=sum(cpu_ns(one.pid) for one in clients) / 1e9,
            machine_s=machine_busy_s(),
        )

    def memory(self) -> Memory:
        return read_memory(
            servers=[one.pid for one in self.alive()],
            redis=self.redis.pid,
            clients=[one.pid for one in (*self.swarms, self.publisher)],
        )


def quiet_ports() -> Iterator[int]:
    """Free ports below those that Linux uses for outgoing connections: otherwise connections of
    some servers could take ports that others are about to listen on.

    Raises:
        NotPossible: there are no more.
    """
    for port in range(QUIET_FIRST, QUIET_LAST):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
    raise NotPossible(f"no ports are free between {QUIET_FIRST} and {QUIET_LAST}")


def _ended_s() -> float:
    """CPU seconds of all child processes that have exited; in a run these are replicas only."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@asynccontextmanager
async def started(scene: Scene) -> AsyncIterator[Site]:
    """Start all processes, and the readiness checks; yields when all replicas are ready.

    Raises:
        ProcessFailed: a process did not start.
    """
    cores = frozenset(os.sched_getaffinity(0))
    python = (sys.executable, "-m")
    settings = {
        "replica.max_connections": scene.connections_per_replica,
        "topic.max_topics": max(100_000, scene.operations + 1_000),
        "viewer.ping_interval_s": scene.ping_interval_s,
        "drain.window_s": DRAIN_WINDOW_S,
        "drain.absorb_per_s": scene.absorb_per_s,
    }
    ports = quiet_ports()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-million-")))
        redis, port = await stack.enter_async_context(
            redis_alone(scene.redis_server, folder, cores)
        )
        replicas = [
            await stack.enter_async_context(
                Replica(
                    index,
                    redis_url=f"redis://127.0.0.1:{port}/0",
                    settings=settings,
                    folder=folder,
                    ports=(next(ports), next(ports)),
                )
            )
            for index in range(scene.replicas)
        ]
        publisher = await stack.enter_async_context(
            running(
                "publisher",
                (*python, "bench.publisher", "--redis-port", str(port)),
                folder=folder,
                cores=cores,
                talks=True,
            )
        )
        swarms = [
            await stack.enter_async_context(
                running(
                    f"swarm-{index}",
                    (*python, "bench.million.swarm"),
                    folder=folder,
                    cores=cores,
                    talks=True,
                )
            )
            for index in range(scene.swarms)
        ]
        site = Site(scene, folder, redis, replicas, swarms, publisher)
        await site.begin()
        async with asyncio.TaskGroup() as tasks:
            checks = tasks.create_task(site.check())
            for replica in replicas:
                await site.until(replica, in_rotation=True)
            try:
                yield site
            finally:
                checks.cancel()
                await asyncio.wait([checks])
                # All at once: otherwise each would spend time on the viewers of those before it.
                await asyncio.gather(*(replica.kill() for replica in replicas))
                await asyncio.gather(*(swarm.end() for swarm in swarms))
