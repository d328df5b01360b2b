"""`python -m bench.memory`: the memory that `tidegate size` counts with, part by part.

A fresh Redis and a fresh replica for each part: what it has without viewers, what a connection adds
(many on few operations) and what an operation adds (as many connections, each with its own). And of
Redis: an operation with one entry, and each further entry. It is resident memory (`used_memory` of
Redis), which other load on the machine does not change. Replay buffers have a budget of their own.

Exit status: 0, 1 when viewers could not connect, 2 when it could not be run.
"""

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import redis.asyncio
import typer
from rich.table import Table

from bench import results
from bench.command import JsonName, RedisServer, console, end, errors_shown
from bench.mark import message_template
from bench.procfs import require_linux, rss_bytes
from bench.report import number
from bench.scenarios import NO_DOORMAN
from bench.stage import Pinning, Stage, redis_binary, staged
from bench.subjects import gateway

ANSWER_S: Final = 120.0
IN_FLIGHT: Final = 64
#: Operations that share the connections of the first part.
FEW: Final = 20
#: Of the part with entries: fewer entries than a stream of the bench is capped at.
FILLED: Final = 200
ENTRIES: Final = 500


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, but for `redis_connections`."""

    replica: int
    connection: float
    operation: float
    redis_empty: int
    redis_operation: float
    redis_entry: float
    #: Clients of Redis that a replica with viewers has.
    redis_connections: int
    wrong: tuple[str, ...] = ()


async def _opened(stage: Stage, operations: int, viewers_each: int, wrong: list[str]) -> None:
    answer = await stage.viewers.ask(
        "open",
        timeout_s=ANSWER_S,
        ports=stage.ports,
        operations=operations,
        viewers_each=viewers_each,
        in_flight=IN_FLIGHT,
        deadline_s=ANSWER_S,
        way=stage.subject.speaks.name,
    )
    if answer["opened"] != answer["expected"]:
        wrong.append(f"{answer['opened']:,} of {answer['expected']:,} viewers connected")


async def _connected(
    stage: Stage, operations: int, viewers_each: int, wrong: list[str]
) -> tuple[int, int]:
    """Resident memory of the replica before and after as many viewers connected."""
    await stage.publisher.ask("fill", timeout_s=ANSWER_S, operations=operations, entries_each=1)
    before = rss_bytes(stage.servers[0].pid)
    await _opened(stage, operations, viewers_each, wrong)
    return before, rss_bytes(stage.servers[0].pid)


async def _redis(stage: Stage, operations: int) -> tuple[int, float, float]:
    """Of an empty server, of an operation with one entry, and of each further entry."""

    async def filled(operations: int, entries_each: int) -> int:
        await client.execute_command("FLUSHALL", "SYNC")
        if operations:
            await stage.publisher.ask(
                "fill", timeout_s=ANSWER_S, operations=operations, entries_each=entries_each
            )
        return int((await client.info("memory"))["used_memory"])

    client: Any
    async with redis.asyncio.from_url(stage.redis_url) as client:
        empty = await filled(0, 0)
        single = await filled(operations, 1)
        many = await filled(FILLED, ENTRIES)
    each = (single - empty) / operations
    entry = (many - empty - each * FILLED) / (FILLED * (ENTRIES - 1))
    return empty, each, entry


async def play(binary: str, connections: int) -> Memory:
    """All parts, one after the other."""
    wrong: list[str] = []
    subject = gateway().with_args(NO_DOORMAN)

    def stage() -> Any:
        return staged(subject, redis_server=binary, pinning=Pinning.choose().loosened())

    async with stage() as first:
        replica, after = await _connected(first, FEW, connections // FEW, wrong)
        connection = (after - replica) / connections
        client: Any
        async with redis.asyncio.from_url(first.redis_url) as client:
            # Without this client and the publisher.
            clients = int((await client.info("clients"))["connected_clients"]) - 2
    async with stage() as second:
        before, after = await _connected(second, connections, 1, wrong)
        operation = (after - before) / connections - connection
    async with stage() as third:
        empty, each, entry = await _redis(third, connections)
    return Memory(replica, connection, operation, empty, each, entry, clients, tuple(wrong))


def table(found: Memory) -> Table:
    """The figures."""
    size = len(message_template() % (0, 0))
    shown = Table(title=f"memory; an entry has {size} bytes", title_justify="left")
    for name in ("part", "bytes"):
        shown.add_column(name, justify="left" if name == "part" else "right")
    for label, value in (
        ("a replica without viewers", found.replica),
        ("each connection", found.connection),
        ("each operation with a viewer", found.operation),
        ("Redis without keys", found.redis_empty),
        ("Redis, each operation with one entry", found.redis_operation),
        ("Redis, each further entry", found.redis_entry),
    ):
        shown.add_row(label, number(value))
    shown.caption = f"a replica has {found.redis_connections} connections to Redis"
    return shown


def main(
    connections: Annotated[int, typer.Option(min=100, max=15_000)] = 4_000,
    redis_server: RedisServer = None,
    json_name: JsonName = None,
) -> None:
    """Measure the memory of a replica and of Redis, part by part."""
    with errors_shown():
        require_linux()
        server = redis_binary(redis_server)
        found = asyncio.run(play(server, connections))
    console.print(table(found))
    end(json_name, results.about(server) | asdict(found), found.wrong)


if __name__ == "__main__":
    typer.run(main)
