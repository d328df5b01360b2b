"""A rolling restart under load: replicas, balancer, viewers that reconnect, and the verdict.

    publisher --XADD--> Redis --> 3 replicas <-- balancer <-- viewers that reconnect

Entries are published all the time. All viewers have a token, and each user has exactly as many
connections as are allowed, so that a slot that is not released would show. At the end, what each
viewer received is compared with the streams.
"""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import orjson
import redis.asyncio

from bench import users
from bench.balancer import Balancer, peak
from bench.child import Child, running
from bench.errors import BenchError
from bench.fleet import Replica
from bench.mark import KEY_PREFIX, find_mark, operation_name
from bench.stage import redis_alone

REPLICAS: Final = 3
WINDOWS_S: Final = (0.1, 1.0)
CONNECTIONS_PER_USER: Final = 10
OPEN_S: Final = 120.0
BACK_S: Final = 60.0
ROTATION_S: Final = 60.0
JUDGE_S: Final = 30.0
ANSWER_S: Final = 30.0
#: Publishing goes on for so long after everyone is back.
AFTER_S: Final = 2.0

Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Side:
    """One way to restart, and how its viewers behave."""

    name: str
    settings: Mapping[str, object]
    polite: bool
    #: How long one replica may take to send everyone away.
    drain_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What both sides have in common."""

    viewers: int = 3000
    operations: int = 200
    per_second: float = 100.0
    redis_server: str = ""


@dataclass(slots=True)
class Outcome:
    """What came of one side. `peaks` are connects within a window, by its length in seconds."""

    side: str
    seconds: float = 0.0
    restart_s: list[float] = field(default_factory=list)
    written: int = 0
    judged: dict[str, Any] = field(default_factory=dict)
    #: All other replicas together, and the one that got the most.
    peaks: dict[float, int] = field(default_factory=dict)
    peaks_one: dict[float, int] = field(default_factory=dict)

    def wrong(self, viewers: int) -> list[str]:
        """What must not be, in words; empty when all is well."""
        judged = self.judged
        found = [
            f"{judged[name]:,} {text}"
            for name, text in (
                ("lost", "entries lost"),
                ("twice", "entries twice"),
                ("disordered", "entries out of order"),
                ("unknown", "entries that nobody wrote"),
                ("last_id_differs", "viewers whose last id is not the stream's"),
            )
            if judged[name]
        ]
        if judged["happened"].get("gap"):
            found.append(f"{judged['happened']['gap']:,} gaps told, and nothing was trimmed")
        if judged["open"] != viewers:
            found.append(f"{viewers - judged['open']:,} of {viewers:,} viewers are not back")
        return found


def paced(window_s: float, delay_s: float = 2.0) -> Side:
    """As the gateway does it; both times are settings of its drain."""
    settings = {"drain.window_s": window_s, "drain.delay_s": delay_s}
    return Side("paced", settings, polite=True, drain_s=window_s + delay_s)


def naive() -> Side:
    """Everyone at once."""
    settings = {
        "drain.window_s": 0,
        "drain.delay_s": 0,
        "drain.jitter_s": 0,
        "drain.absorb_per_s": 100_000,
    }
    return Side("naive", settings, polite=False, drain_s=0.0)


async def play(scene: Scene, side: Side, tell: Tell) -> Outcome:
    """Play one side. Raises `BenchError` when a process fails or a replica does not end with 0."""
    outcome = Outcome(side.name)
    started = time.monotonic()
    async with _staged(scene, side) as stage:
        tell("viewers come", 0.0)
        opened = await stage.viewers.ask(
            "open",
            timeout_s=OPEN_S + ANSWER_S,
            port=stage.balancer.port,
            viewers=scene.viewers,
            operations=scene.operations,
            polite=side.polite,
            secret=stage.secret,
            connections_per_user=CONNECTIONS_PER_USER,
            deadline_s=OPEN_S,
        )
        if opened["open"] != scene.viewers:
            raise BenchError(f"not everybody could connect: {opened}")
        await stage.viewers.ask("forget", timeout_s=ANSWER_S)
        async with asyncio.TaskGroup() as tasks:
            enough = asyncio.Event()
            publishing = tasks.create_task(_publish(stage.publisher, scene, enough))
            marks = []
            for index, replica in enumerate(stage.replicas):
                marks.append(time.monotonic())
                await _restart(stage, replica, side, tell, index / len(stage.replicas))
                outcome.restart_s.append(time.monotonic() - marks[-1])
            await stage.viewers.ask("back", timeout_s=BACK_S + ANSWER_S, deadline_s=BACK_S)
            marks.append(time.monotonic())
            await asyncio.sleep(AFTER_S)
            enough.set()
        outcome.written = publishing.result()
        tell("every viewer is compared with its stream", 1.0)
        streams = stage.folder / "streams.json"
        streams.write_bytes(orjson.dumps(await _read_streams(stage.redis_url, scene.operations)))
        outcome.judged = await stage.viewers.ask(
            "judge", timeout_s=JUDGE_S + ANSWER_S, streams=str(streams), deadline_s=JUDGE_S
        )
        for window_s in WINDOWS_S:
            outcome.peaks[window_s], outcome.peaks_one[window_s] = _peaks(stage, marks, window_s)
    outcome.seconds = time.monotonic() - started
    return outcome


@dataclass(frozen=True, slots=True)
class _Stage:
    redis_url: str
    replicas: list[Replica]
    balancer: Balancer
    viewers: Child
    publisher: Child
    folder: Path
    secret: str


@asynccontextmanager
async def _staged(scene: Scene, side: Side) -> AsyncIterator[_Stage]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-drain-")))
        cores = frozenset(os.sched_getaffinity(0))

        async def start(name: str, *argv: str, talks: bool = False) -> Child:
            return await stack.enter_async_context(
                running(name, argv, folder=folder, cores=cores, talks=talks)
            )

        alone = redis_alone(scene.redis_server, folder, cores)
        _, port = await stack.enter_async_context(alone)
        redis_url = f"redis://127.0.0.1:{port}/0"
        secret = secrets.token_hex(32)
        settings = {
            **users.settings(secret, CONNECTIONS_PER_USER),
            **side.settings,
        }
        replicas = [
            await stack.enter_async_context(
                Replica(index, redis_url=redis_url, settings=settings, folder=folder)
            )
            for index in range(REPLICAS)
        ]
        balancer = await stack.enter_async_context(
            Balancer([replica.backend for replica in replicas])
        )
        for replica in replicas:
            await replica.rotation(in_rotation=True, within_s=ROTATION_S)
        python = (sys.executable, "-m")
        viewers = await start("viewers", *python, "bench.returning", talks=True)
        publisher = await start(
            "publisher", *python, "bench.publisher", "--redis-port", str(port), talks=True
        )
        yield _Stage(redis_url, replicas, balancer, viewers, publisher, folder, secret)


async def _restart(stage: _Stage, replica: Replica, side: Side, tell: Tell, done: float) -> None:
    """Down and up again; returns when the balancer has it back in rotation."""
    tell(f"{replica.name} sends its viewers away", done)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replica.stop(side.drain_s))
        tasks.create_task(replica.rotation(in_rotation=False, within_s=ROTATION_S))
    tell(f"{replica.name} starts again", done + 0.8 / REPLICAS)
    await replica.start_again()
    await replica.rotation(in_rotation=True, within_s=ROTATION_S)
    for one in stage.replicas:
        one.check()


async def _publish(publisher: Child, scene: Scene, enough: asyncio.Event) -> int:
    """One entry to each operation, over and over, until it is enough; how many it were."""
    sent = 0
    while not enough.is_set():
        answer = await publisher.ask(
            "publish",
            timeout_s=scene.operations / scene.per_second + ANSWER_S,
            operations=scene.operations,
            entries=scene.operations,
            per_second=scene.per_second,
        )
        sent += answer["sent"]
    return sent


async def _read_streams(url: str, operations: int) -> dict[str, list[tuple[str, int]]]:
    """The truth: id and number of every entry, by operation."""
    streams: dict[str, list[tuple[str, int]]] = {}
    async with redis.asyncio.Redis.from_url(url) as given:
        client: Any = given  # typed for every way to decode answers
        for index in range(operations):
            name = operation_name(index)
            entries = []
            for entry_id, fields in await client.xrange(KEY_PREFIX + name):
                mark = find_mark(fields[b"message"])
                if mark is None:
                    raise BenchError(f"{name} has an entry without a mark: {fields}")
                entries.append((entry_id.decode(), mark.number))
            streams[name] = entries
    return streams


def _peaks(stage: _Stage, marks: list[float], window_s: float) -> tuple[int, int]:
    """While replica i was restarted: connects at all others together, and at the busiest one."""
    together = busiest = 0
    for index, (begin, end) in enumerate(pairwise(marks)):
        moments: list[float] = []
        for other, replica in enumerate(stage.replicas):
            if other == index:
                continue
            own = [at for at in replica.backend.connected_s if begin <= at < end]
            busiest = max(busiest, peak(own, window_s))
            moments += own
        together = max(together, peak(sorted(moments), window_s))
    return together, busiest
