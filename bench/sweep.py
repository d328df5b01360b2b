"""`python -m bench.sweep`: what it costs to sweep a million streams.

A fresh Redis is filled with real streams of all states (raw protocol, pipelined). Then the sweep of
the operator goes round twice, in a process of its own and at the pace that is its default: the
first round meets everything for the first time, the second one is what every later round is like.
Redis' CPU is the process's own clock over the round; nobody else uses it meanwhile. Memory of the
sweeper is sampled while it runs.

Exit status: 0, 1 when a stream was judged wrongly, 2 when it could not be run.
"""

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from bench import results
from bench.child import Child, running
from bench.command import JsonName, RedisServer, console, end, errors_shown
from bench.errors import NotPossible
from bench.procfs import cpu_ns, require_linux, require_memory, rss_bytes
from bench.report import number
from bench.stage import redis_alone, redis_binary
from tidegate.model.settings import RedisSettings, RedisUrl
from tidegate.redis.address import parse_address
from tidegate.redis.topology import Topology
from tidegate_operator.model.streams import Streams
from tidegate_operator.redis.sweep import StreamSweeper

#: Of a core, which the sweep may take from Redis.
REACH_SHARE: Final = 0.05
#: Streams by state, of every 20, in turn. The rest runs.
MIX: Final = ("finished",) * 12 + ("failed",) + ("idle",) * 2 + ("orphan",)
OF: Final = 20
#: They get the shortest TTL.
GOING: Final = ("idle", "orphan")
#: Longer than the bench, so that what has ended is there in the next round as well.
TTL: Final = {"finishedS": 7 * 86_400, "failedS": 7 * 86_400}
AGE_S: Final = {"finished": 60, "failed": 60, "idle": 90_000, "orphan": 90_000, "running": 5}
PREFIX: Final = "operation-progress:"
FILL_BATCH: Final = 2_000
#: A million streams of one entry with group and consumer take 5 GB.
BYTES_PER_STREAM: Final = 5_500
SAMPLE_S: Final = 1.0
ANSWER_S: Final = 6 * 3_600.0
READY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """One round over all streams. Sizes in bytes."""

    name: str
    seconds: float
    redis_cpu_s: float
    sweeper_cpu_s: float
    rss_begin: int
    rss_peak: int
    commands: int
    report: dict[str, Any]

    @property
    def redis_share(self) -> float:
        return self.redis_cpu_s / self.seconds


def state_of(index: int) -> str:
    """The state of the stream with this number."""
    place = index % OF
    return MIX[place] if place < len(MIX) else "running"


def _fill(index: int, now_ms: int) -> Iterator[tuple[str, ...]]:
    state = state_of(index)
    key = f"{PREFIX}{index:08d}"
    at = f"{now_ms - 1000 * AGE_S[state]}-0"
    if state in ("finished", "failed"):
        status = "completed" if state == "finished" else "failed"
        data = {"type": f"operation_{status}", "data": {"status": status, "note": "x" * 60}}
    else:
        data = {"type": "progress", "data": {"progress": 0.5, "note": "x" * 60}}
    yield "XADD", key, at, "message", json.dumps(data)
    if state != "orphan":
        yield "XGROUP", "CREATE", key, "tidegate", at
    if state == "running":
        yield "XGROUP", "CREATECONSUMER", key, "tidegate", "pod-a"


def _pack(command: tuple[str, ...]) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    parts += [b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in command]
    return b"".join(parts)


def fill(port: int, count: int) -> None:
    """Make the streams. Raises `NotPossible` when the server refuses one."""
    now_ms = int(time.time() * 1000)
    with socket.create_connection(("127.0.0.1", port)) as link:
        replies = link.makefile("rb")
        for first in range(0, count, FILL_BATCH):
            numbers = range(first, min(first + FILL_BATCH, count))
            commands = [command for n in numbers for command in _fill(n, now_ms)]
            link.sendall(b"".join(_pack(command) for command in commands))
            for _ in commands:
                line = replies.readline()
                if line.startswith(b"-"):
                    raise NotPossible(f"the server refused a stream: {line.decode().strip()}")
                if line.startswith(b"$"):
                    replies.readline()


# -- the sweeper's process -------------------------------------------------------------------------


def sweeper() -> None:
    """Reads a command per line, `{"do": "round", "url", "pace"}`, and answers with the report; what
    else it is asked, such as whether it is ready, it answers with nothing.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if asked["do"] == "round":
                answer = asyncio.run(_round(asked["url"], asked["pace"]))
        except Exception as error:  # noqa: BLE001  # whatever it is, the bench has to be told
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


async def _round(url: str, pace: dict[str, int]) -> dict[str, Any]:
    settings = RedisSettings(url=RedisUrl(url))
    topology = Topology(parse_address(settings), settings)
    sweep = StreamSweeper(topology, settings)
    try:
        report = await sweep.round(Streams.model_validate({"pace": pace, "ttl": TTL}))
    finally:
        await sweep.close()
        await topology.close()
    return report.as_dict()


# -- the bench -------------------------------------------------------------------------------------


async def _measured(
    name: str, redis: Child, sweeper: Child, url: str, pace: dict[str, int]
) -> Round:
    begin_rss = peak = rss_bytes(sweeper.pid)
    cpu, own, began = cpu_ns(redis.pid), cpu_ns(sweeper.pid), time.monotonic()
    asked = asyncio.ensure_future(sweeper.ask("round", timeout_s=ANSWER_S, url=url, pace=pace))
    try:
        while not asked.done():
            await asyncio.wait([asked], timeout=SAMPLE_S)
            peak = max(peak, rss_bytes(sweeper.pid))
    finally:
        asked.cancel()
    report = asked.result()
    seconds = time.monotonic() - began
    return Round(
        name,
        seconds,
        (cpu_ns(redis.pid) - cpu) / 1e9,
        (cpu_ns(sweeper.pid) - own) / 1e9,
        begin_rss,
        peak,
        report["commands"],
        report,
    )


async def play(
    server: str, streams: int, pace: dict[str, int], console: Console
) -> tuple[list[Round], int]:
    """Both rounds, and Redis' memory in bytes when it was filled."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        cores = frozenset(os.sched_getaffinity(0))
        redis, port = await stack.enter_async_context(redis_alone(server, folder, cores))
        began = time.monotonic()
        await asyncio.to_thread(fill, port, streams)
        filled = rss_bytes(redis.pid)
        console.print(
            f"[dim]{streams:,} streams made in {time.monotonic() - began:.0f} s, "
            f"{filled / 2**20:,.0f} MiB[/dim]"
        )
        child = await stack.enter_async_context(
            running(
                "sweeper",
                (sys.executable, "-m", "bench.sweep", "--as-sweeper"),
                folder=folder,
                cores=cores,
                talks=True,
            )
        )
        await child.ask("start", timeout_s=READY_S)
        url = f"redis://127.0.0.1:{port}/0"
        rounds = []
        for name in ("first round", "next round"):
            rounds.append(await _measured(name, redis, child, url, pace))
            console.print(f"[dim]{name}: {rounds[-1].seconds:.0f} s[/dim]")
        return rounds, filled


def wrong(rounds: list[Round], streams: int) -> list[str]:
    """What a round should have counted and did not."""
    expected = dict.fromkeys(AGE_S, 0)
    for index in range(streams):
        expected[state_of(index)] += 1
    found = []
    for one in rounds:
        seen = one.report["streams"]
        found += [
            f"{one.name}: {state}: {seen[state]:,} of {count:,}"
            for state, count in expected.items()
            # SCAN may give a key twice while its table grows or shrinks, and never not at all. But
            # what was idle has minutes to live, and may be gone in the next round.
            if not (0 if one is not rounds[0] and state in GOING else count)
            <= seen[state]
            <= count + max(1, streams // 1000)
        ]
    expiring = rounds[0].report["expiring"]
    found += [
        f"TTLs set on {state}: {expiring[state]:,} of {expected[state]:,}"
        for state in expiring
        if expiring[state] != expected[state]
    ]
    later = sum(rounds[-1].report["expiring"].values())
    if later:
        found.append(f"the next round set {later:,} TTLs again")
    return found


def table(rounds: list[Round], streams: int, filled: int) -> Table:
    """The figures."""
    shown = Table(
        title=f"{streams:,} streams, {filled / 2**20:,.0f} MiB in Redis",
        title_justify="left",
        title_style="bold",
    )
    shown.add_column("figure")
    shown.add_column("unit")
    for one in rounds:
        shown.add_column(one.name, justify="right")
    shown.add_column("reach", justify="right")
    rows = (
        ("time", "s", [one.seconds for one in rounds], ""),
        (
            "Redis' CPU, of a core",
            "%",
            [100 * one.redis_share for one in rounds],
            f"<= {100 * REACH_SHARE:g}",
        ),
        ("Redis' CPU per stream", "us", [1e6 * one.redis_cpu_s / streams for one in rounds], ""),
        ("commands", "", [float(one.commands) for one in rounds], ""),
        (
            "sweeper's CPU, of a core",
            "%",
            [100 * one.sweeper_cpu_s / one.seconds for one in rounds],
            "",
        ),
        ("sweeper's memory, begin", "MiB", [one.rss_begin / 2**20 for one in rounds], ""),
        ("sweeper's memory, peak", "MiB", [one.rss_peak / 2**20 for one in rounds], ""),
        (
            "TTLs set",
            "",
            [float(sum(one.report["expiring"].values())) for one in rounds],
            "",
        ),
    )
    for label, unit, values, reach in rows:
        shown.add_row(label, unit, *(number(value) for value in values), reach)
    return shown


def main(
    streams: Annotated[int, typer.Option(min=20, max=20_000_000, help="How many.")] = 1_000_000,
    commands_per_s: Annotated[
        int | None, typer.Option(min=10, max=100_000, help="spec.streams.pace (its default).")
    ] = None,
    changes_per_s: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="spec.streams.pace (its default).")
    ] = None,
    redis_server: RedisServer = None,
    json_name: JsonName = None,
    as_sweeper: Annotated[bool, typer.Option("--as-sweeper", hidden=True)] = False,
) -> None:
    """Sweep a million streams, twice, and tell what it costs Redis."""
    if as_sweeper:
        sweeper()
        return
    pace = {"commandsPerS": commands_per_s, "changesPerS": changes_per_s}
    given = {name: value for name, value in pace.items() if value is not None}
    with errors_shown():
        require_linux()
        require_memory(streams * BYTES_PER_STREAM, f"{streams:,} streams")
        server = redis_binary(redis_server)
        rounds, filled = asyncio.run(play(server, streams, given, console))
    console.print(table(rounds, streams, filled))
    document = results.about(server) | {
        "streams": streams,
        "pace": given or "default",
        "rounds": [asdict(one) for one in rounds],
    }
    end(json_name, document, wrong(rounds, streams))


if __name__ == "__main__":
    typer.run(main)
