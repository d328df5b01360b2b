"""`python -m bench.feeds`: what it costs to list operations in feeds, and to read a feed.

A fresh Redis. Operations of many users are started by a `Publisher`, first without a feed and then
with one for each user; what the second costs more is the feed. Then a replica is asked for
`GET /feeds/{id}` of users in turn. CPU is the processes' own clock, and nobody else uses them.

Exit status: 0, 1 when a feed did not list what it should, 2 when it could not be run.
"""

import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import redis.asyncio
import typer
from rich.table import Table

from bench import results
from bench.child import Child, running
from bench.command import JsonName, RedisServer, console, end, errors_shown
from bench.procfs import cpu_ns, require_linux, require_memory
from bench.report import number
from bench.stage import free_port, redis_alone, redis_binary, until_ready
from tidegate import Publisher

#: Operations of a page of a feed.
LIMIT: Final = 10
#: A started operation takes about 1.3 KB, and its place in a feed less.
BYTES_PER_OPERATION: Final = 4_000
TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    """All operations started once. Sizes in bytes."""

    name: str
    operations: int
    seconds: float
    redis_cpu_s: float
    memory: int

    @property
    def redis_us(self) -> float:
        return 1e6 * self.redis_cpu_s / self.operations

    @property
    def bytes_each(self) -> float:
        return self.memory / self.operations


@dataclass(frozen=True, slots=True)
class Pages:
    """Feeds read over HTTP, one request at a time."""

    requests: int
    seconds: float
    redis_cpu_s: float
    replica_cpu_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, and what was wrong."""

    plain: Started
    listed: Started
    pages: Pages
    wrong: tuple[str, ...]


async def _memory(client: Any) -> int:
    info = await client.info("memory")
    return int(info["used_memory"])


def _start(url: str, operations: int, users: int, *, listed: bool) -> None:
    with Publisher(url) as publisher:
        for n in range(operations):
            feed = f"user:{n % users}" if listed else None
            publisher.start(f"op-{n}", feed=feed, title=f"Operation {n}")


async def _started(
    name: str, server: Child, url: str, operations: int, users: int, *, listed: bool
) -> Started:
    async with redis.asyncio.from_url(url) as client:
        # Scripts and buffers are there from the first entry on.
        await asyncio.to_thread(_start, url, 1, users, listed=True)
        await client.execute_command("FLUSHALL", "SYNC")  # else it is freed meanwhile
        before = await _memory(client)
        cpu, began = cpu_ns(server.pid), time.monotonic()
        await asyncio.to_thread(_start, url, operations, users, listed=listed)
        seconds, cpu_s = time.monotonic() - began, (cpu_ns(server.pid) - cpu) / 1e9
        memory = await _memory(client) - before
    return Started(name, operations, seconds, cpu_s, memory)


async def _pages(
    server: Child, replica: Child, base: str, operations: int, users: int, requests: int
) -> tuple[Pages, list[str]]:
    wrong: list[str] = []
    async with httpx.AsyncClient(base_url=base, timeout=TIMEOUT_S) as client:
        cpu, own, began = cpu_ns(server.pid), cpu_ns(replica.pid), time.monotonic()
        for n in range(requests):
            user = n * 7919 % users
            answer = await client.get(f"/feeds/user:{user}", params={"limit": LIMIT})
            shown = [one["operation"] for one in answer.json().get("operations", ())]
            expected = [f"op-{n}" for n in range(user, operations, users)][-LIMIT:][::-1]
            if shown != expected and len(wrong) < 5:
                wrong.append(f"user:{user}: {answer.status_code}: {shown} for {expected}")
        seconds = time.monotonic() - began
    redis_cpu_s, replica_cpu_s = (
        (cpu_ns(child.pid) - before) / 1e9 for child, before in ((server, cpu), (replica, own))
    )
    return Pages(requests, seconds, redis_cpu_s, replica_cpu_s), wrong


async def play(binary: str, operations: int, users: int, requests: int) -> Outcome:
    """All of it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        cores = frozenset(os.sched_getaffinity(0))
        public, admin = free_port(), free_port()
        server, port = await stack.enter_async_context(redis_alone(binary, folder, cores))
        url = f"redis://127.0.0.1:{port}/0"
        plain = await _started("without", server, url, operations, users, listed=False)
        listed = await _started("with", server, url, operations, users, listed=True)
        serve = (
            *(sys.executable, "-m", "tidegate.cli.main", "serve", "--auth", "none"),
            *("--redis", url, "--port", str(public), "--admin-port", str(admin)),
        )
        replica = await stack.enter_async_context(
            running("replica", serve, folder=folder, cores=cores)
        )
        await until_ready(replica, f"http://127.0.0.1:{admin}/readyz")
        pages, wrong = await _pages(
            server, replica, f"http://127.0.0.1:{public}", operations, users, requests
        )
        return Outcome(plain, listed, pages, tuple(wrong))


def table(found: Outcome, users: int) -> Table:
    """The figures."""
    plain, listed, pages = found.plain, found.listed, found.pages
    shown = Table(
        title=f"{plain.operations:,} operations of {users:,} users",
        title_justify="left",
        title_style="bold",
    )
    for name in ("figure", "unit", "no feed", "feed", "more"):
        shown.add_column(name, justify="left" if name in ("figure", "unit") else "right")
    for label, unit, one, other in (
        ("Redis' CPU to start an operation", "us", plain.redis_us, listed.redis_us),
        ("memory of Redis per operation", "bytes", plain.bytes_each, listed.bytes_each),
        (
            "time to start an operation",
            "us",
            1e6 * plain.seconds / plain.operations,
            1e6 * listed.seconds / listed.operations,
        ),
    ):
        shown.add_row(label, unit, number(one), number(other), number(other - one))
    for label, seconds in (
        (f"GET /feeds/{{id}}, {LIMIT} operations: Redis' CPU", pages.redis_cpu_s),
        ("replica's CPU", pages.replica_cpu_s),
        ("time", pages.seconds),
    ):
        shown.add_row(label, "us", "", number(1e6 * seconds / pages.requests), "")
    return shown


def main(
    operations: Annotated[int, typer.Option(min=1, max=10_000_000)] = 100_000,
    users: Annotated[int, typer.Option(min=1, max=1_000_000)] = 10_000,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="Of pages.")] = 2_000,
    redis_server: RedisServer = None,
    json_name: JsonName = None,
) -> None:
    """Start operations with and without a feed, and read the feeds."""
    with errors_shown():
        require_linux()
        require_memory(operations * BYTES_PER_OPERATION, f"{operations:,} operations")
        server = redis_binary(redis_server)
        found = asyncio.run(play(server, operations, users, requests))
    console.print(table(found, users))
    document = results.about(server) | {"users": users, **asdict(found)}
    end(json_name, document, found.wrong)


if __name__ == "__main__":
    typer.run(main)
