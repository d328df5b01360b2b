"""How each kind of scenario is played: one round in, figures and problems out.

Each round: fresh processes, viewers connected, a warm-up of the same kind, then the measured
stretch. The stretch begins when everything of the warm-up has arrived and ends when everything of
its own has, so that costs and deliveries belong together. What went wrong is a problem in words,
never a missing row.
"""

import asyncio
import sys
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx

from bench import users
from bench.child import Child, running
from bench.errors import BenchError, NotPossible
from bench.mark import operation_name, token
from bench.meter import Meter
from bench.procfs import cpu_ns, rss_bytes
from bench.reader import LONG as READ_BY_ONE
from bench.scenarios import Kind, Scenario
from bench.stage import Pinning, Stage, free_port, staged
from bench.stats import percentile
from bench.subjects import Subject
from bench.ways import Way

WARM_UP_S: Final = 1.5
# Nothing for this long, and what is missing does not come any more.
QUIET_S: Final = 3.0
DRAIN_S: Final = 20.0
OPEN_S: Final = 90.0
# Handshakes at a time: enough to keep one core busy, few enough for any listen backlog.
IN_FLIGHT: Final = 128
# Of the bench's own tokens, which nobody else believes.
SECRET: Final = "a secret of the bench, which opens nothing else"
# A member of the gang that nobody ends does so itself.
GANG_PATIENCE_S: Final = 8.0
GANG_NICENESS: Final = 10
# What a user may have by default: the one who does harm has all of them.
ONE_USER_CONNECTIONS: Final = 10
# Of an entry that nobody watches: 500 of them are more than a page may carry.
PAD_BYTES: Final = 50_000
LINKS_MADE: Final = 'tidegate_redis_events_total{event="connects"} '
# Each is 200 joins.
MANY_IN_FLIGHT: Final = 2
JOINS_AT_A_TIME: Final = 8
SETTLE_S: Final = 2.0
# Until a viewer has a whole text.
TEXT_S: Final = 900.0
ANSWER_S: Final = 60.0
# From these on a figure says more about the bed than about the server.
LOAD_CORE_PCT: Final = 90.0
OTHERS_CORE_PCT: Final = 15.0
LATE_P99_MS: Final = 5.0

Watch = Callable[[Stage], AbstractAsyncContextManager[object]]


@asynccontextmanager
async def unwatched(_: Stage) -> AsyncIterator[None]:
    """Nobody looks into the server while it is measured."""
    yield


@dataclass(frozen=True, slots=True)
class Bed:
    """What all rounds of a run share; the profiler is a `watch` around the measured stretch."""

    redis_server: str
    pinning: Pinning
    seconds: float
    watch: Watch = unwatched
    warm_up_s: float = WARM_UP_S
    quiet_s: float = QUIET_S


@dataclass(slots=True)
class Round:
    """One round's result: figures by metric name, problems in words, and the tools' own answers."""

    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


async def play(scenario: Scenario, subject: Subject, bed: Bed) -> Round:
    """Play one round.

    Raises:
        BenchError: a process failed, or the subject has no such way in.
    """
    if scenario.way not in subject.ways:
        raise NotPossible(f"{subject.name} does not serve {scenario.way.value}")
    scenario = scenario.times(subject.times)
    if subject.signs_in:  # the gateway: another server has no use for its arguments
        subject = subject.with_args(scenario.server_args)
    if scenario.connections_per_user:
        signed_in = users.settings(SECRET, scenario.connections_per_user)
        for name, value in signed_in.items():
            subject = subject.with_args(("--set", f"{name}={value}"))
    if scenario.kind is Kind.ONE_USER:
        return await _one_user(scenario, subject, bed)
    if scenario.kind is Kind.REPLICAS:
        return await _replicas(scenario, subject, bed)
    if scenario.kind is Kind.TOKENS:
        return await _tokens_of_a_text(scenario, subject, bed)
    play_on = {
        Kind.LIVE: _live,
        Kind.IDLE: _idle,
        Kind.CONNECTS: _connects,
        Kind.JOINS: _joins,
        Kind.HOSTILE: _hostile,
        Kind.BURST: _burst,
    }[scenario.kind]
    async with staged(subject, redis_server=bed.redis_server, pinning=bed.pinning) as stage:
        return await play_on(stage, scenario, bed)


async def _live(stage: Stage, scenario: Scenario, bed: Bed) -> Round:
    outcome = Round()
    await _open(stage, scenario, outcome, in_flight=IN_FLIGHT)
    await _stretch(stage, scenario, bed, outcome)
    return outcome


async def _stretch(
    stage: Stage, scenario: Scenario, bed: Bed, outcome: Round, *, beside: Child | None = None
) -> None:
    """A warm-up and the measured stretch; `beside` is a process whose CPU belongs to the round."""
    await _publish(stage, scenario, bed, bed.warm_up_s)
    aside_ns = 0 if beside is None else cpu_ns(beside.pid)
    clock = stage.clock()
    async with bed.watch(stage):
        sent, seen, latencies = await _publish(stage, scenario, bed, bed.seconds)
    meter = stage.since(clock)
    outcome.raw |= {"publisher": sent, "viewers": seen}
    _count(outcome, expected=sent["expected"], seen=seen)
    figures = outcome.figures
    if latencies:
        delivered = seen["delivered"]
        figures["cpu_us_per_delivery"] = meter.server_s * 1e6 / delivered
        figures["user_us_per_delivery"] = meter.server_user_s * 1e6 / delivered
        figures["load_us_per_delivery"] = meter.viewers_s * 1e6 / delivered
        figures["deliveries_per_s"] = delivered / seen["seconds"]
        figures["p50_ms"] = percentile(latencies, 50) / 1e6
        figures["p99_ms"] = percentile(latencies, 99) / 1e6
        figures["p999_ms"] = percentile(latencies, 99.9) / 1e6
        figures["max_ms"] = latencies[-1] / 1e6
    figures["redis_us_per_entry"] = meter.redis_s * 1e6 / sent["sent"]
    figures["publisher_late_p99_ms"] = sent["late_p99_ms"]
    figures["publisher_late_max_ms"] = sent["late_max_ms"]
    if sent["late_p99_ms"] > LATE_P99_MS:
        outcome.problems.append(f"the publisher was late: p99 {sent['late_p99_ms']:.1f} ms")
    if beside is not None:
        aside_s = (cpu_ns(beside.pid) - aside_ns) / 1e9
        figures["beside_core_pct"] = 100 * aside_s / meter.seconds
        meter = replace(meter, others_s=max(0.0, meter.others_s - aside_s))
    _bed_figures(outcome, meter, pinned=stage.pinning.apart)


async def _hostile(stage: Stage, scenario: Scenario, bed: Bed) -> Round:
    """The same viewers twice: among themselves, and with a gang at the same replica."""
    outcome, calm, besieged = Round(), Round(), Round()
    await _open(stage, scenario, outcome, in_flight=IN_FLIGHT)
    (server,) = stage.servers
    target = operation_name(scenario.operations if scenario.history else 0)
    if scenario.history:  # what those who read nothing ask for
        await stage.publisher.ask(
            "fill_large",
            timeout_s=ANSWER_S,
            names=[target],
            entries=scenario.history,
            pad_bytes=PAD_BYTES,
        )
    await _stretch(stage, scenario, bed, calm)
    before = rss_bytes(server.pid)
    gang_command = (sys.executable, "-m", "bench.hostile")
    # Niced: it shares its core with those whose latency is looked at.
    async with running(
        *("gang", gang_command),
        folder=stage.folder,
        cores=stage.pinning.rest,
        niceness=GANG_NICENESS,
        talks=True,
    ) as gang:
        await gang.ask(
            "start",
            timeout_s=ANSWER_S,
            port=stage.ports[0],
            each=scenario.gang,
            path=f"/ws/operations/{target}",
            kinds=scenario.kinds,
            patience_s=GANG_PATIENCE_S,
        )
        await _stretch(stage, scenario, bed, besieged, beside=gang)
        after = rss_bytes(server.pid)
        ended = await gang.ask("stop", timeout_s=ANSWER_S)
    for label, part in (("calm", calm), ("hostile", besieged)):
        outcome.raw[label] = part.raw
        outcome.problems += [f"{label}: {problem}" for problem in part.problems]
        outcome.figures |= {f"{name}_{label}": value for name, value in part.figures.items()}
    outcome.raw["gang"] = ended
    figures = outcome.figures
    figures["attacks_per_s"] = sum(ended["ended"].values()) / ended["seconds"]
    figures["rss_growth_mib"] = (after - before) / 2**20
    figures["delivered_pct"] = min(calm.figures["delivered_pct"], besieged.figures["delivered_pct"])
    if calm.figures.get("p99_ms") and "p99_ms" in besieged.figures:
        figures["p99_ratio"] = besieged.figures["p99_ms"] / calm.figures["p99_ms"]
    return outcome


async def _one_user(scenario: Scenario, subject: Subject, bed: Bed) -> Round:
    """The same requests of one user twice: alone, and while another user does harm."""
    if not subject.signs_in:
        raise NotPossible(f"{subject.name} knows no users")
    backend = free_port()
    # Who reads is not to be slowed down by what it has to ask.
    cache_s = 60 if scenario.history else 0
    asked = {"kind": "http", "url": f"http://127.0.0.1:{backend}", "cache_s": cache_s}
    given = users.settings(SECRET, ONE_USER_CONNECTIONS)
    for name, value in (given | {f"source.{key}": of for key, of in asked.items()}).items():
        subject = subject.with_args(("--set", f"{name}={value}"))
    outcome = Round()
    command = (sys.executable, "-m", "bench.one_user")
    async with (
        staged(subject, redis_server=bed.redis_server, pinning=bed.pinning) as stage,
        running(
            "source", command, folder=stage.folder, cores=bed.pinning.rest, talks=True
        ) as source,
        running(
            "bystander", command, folder=stage.folder, cores=bed.pinning.rest, talks=True
        ) as ann,
        running(
            *("attacker", command),
            folder=stage.folder,
            cores=bed.pinning.rest,
            niceness=GANG_NICENESS,
            talks=True,
        ) as attacker,
    ):
        (port,), (server,) = stage.ports, stage.servers
        await source.ask("serve", timeout_s=ANSWER_S, port=backend)
        if scenario.history:
            await stage.publisher.ask(
                "fill_large",
                timeout_s=ANSWER_S,
                names=[READ_BY_ONE],
                entries=scenario.history,
                pad_bytes=0,
            )
        answered: list[float] = []

        async def asking(label: str) -> None:
            told = await ann.ask(
                "ask",
                timeout_s=ANSWER_S + bed.seconds,
                port=port,
                secret=SECRET,
                seconds=bed.seconds,
            )
            took, figures = sorted(told["took_ms"]), outcome.figures
            figures[f"p50_ms_{label}"] = percentile(took, 50)
            figures[f"p99_ms_{label}"] = percentile(took, 99)
            figures[f"max_ms_{label}"] = took[-1]
            answered.append(100 * told["answers"].get("200", 0) / len(took))
            outcome.raw[label] = told["answers"]

        await asking("calm")
        before = rss_bytes(server.pid)
        await attacker.ask(
            "attack", timeout_s=ANSWER_S, kind=scenario.attack, port=port, secret=SECRET
        )
        await asyncio.sleep(SETTLE_S)  # it is in full swing
        await asking("hostile")
        done = await attacker.ask("stop", timeout_s=ANSWER_S)
        asked_by_then = await source.ask("stop", timeout_s=ANSWER_S)
        await asyncio.sleep(SETTLE_S)
        asked_later = await source.ask("stop", timeout_s=ANSWER_S)
        after = rss_bytes(server.pid)
    outcome.raw |= {"attacker": done, "source": asked_later}
    figures = outcome.figures
    figures["p99_ratio"] = figures["p99_ms_hostile"] / figures["p99_ms_calm"]
    figures["answered_pct"] = min(answered)
    read_bytes = done["done"].pop("bytes", 0)
    figures["read_mib_per_s"] = read_bytes / 2**20 / done["seconds"]
    figures["attacks_per_s"] = sum(done["done"].values()) / done["seconds"]
    figures["asked_per_s"] = asked_by_then["done"]["asked"] / asked_by_then["seconds"]
    figures["asked_after"] = asked_later["done"]["asked"] - asked_by_then["done"]["asked"]
    figures["rss_growth_mib"] = (after - before) / 2**20
    return outcome


async def _burst(stage: Stage, scenario: Scenario, bed: Bed) -> Round:
    """The same viewers twice: among themselves, and while many come to other operations."""
    outcome, calm, crowded = Round(), Round(), Round()
    await stage.publisher.ask(
        "fill_large",
        timeout_s=ANSWER_S,
        names=[operation_name(scenario.operations + n) for n in range(scenario.arrivals)],
        entries=scenario.history,
        pad_bytes=scenario.pad,
    )
    await _open(stage, scenario, outcome, in_flight=IN_FLIGHT)
    (server,) = stage.servers
    await _stretch(stage, scenario, bed, calm)
    before, links = rss_bytes(server.pid), await _links_made(stage)
    command = (sys.executable, "-m", "bench.burst")
    # Niced: it shares its core with those whose latency is looked at.
    async with running(
        *("burst", command),
        folder=stage.folder,
        cores=stage.pinning.rest,
        niceness=GANG_NICENESS,
        talks=True,
    ) as burst:

        @asynccontextmanager
        async def arriving(stage: Stage) -> AsyncIterator[None]:
            arrived = asyncio.create_task(
                burst.ask(
                    "arrive",
                    timeout_s=OPEN_S + ANSWER_S,
                    port=stage.ports[0],
                    first=scenario.operations,
                    viewers=scenario.arrivals,
                    entries_each=scenario.history - 1,  # what a viewer gets that asks for nothing
                    patience_s=OPEN_S,
                )
            )
            async with bed.watch(stage):
                yield
            outcome.raw["arrivals"] = await arrived

        watched = replace(bed, watch=arriving)
        await _stretch(stage, scenario, watched, crowded, beside=burst)
    after, links_after = rss_bytes(server.pid), await _links_made(stage)
    for label, part in (("calm", calm), ("burst", crowded)):
        outcome.raw[label] = part.raw
        outcome.problems += [f"{label}: {problem}" for problem in part.problems]
        outcome.figures |= {f"{name}_{label}": value for name, value in part.figures.items()}
    figures, came = outcome.figures, outcome.raw["arrivals"]
    figures["joined_pct"] = 100 * came["arrived"] / came["expected"]
    figures["cuts"] = links_after - links
    figures["rss_growth_mib"] = (after - before) / 2**20
    figures["delivered_pct"] = min(calm.figures["delivered_pct"], crowded.figures["delivered_pct"])
    if came["lost"]:
        outcome.problems.append(f"some of those who came have no history: {came['lost']}")
    if came["slowest_s"] is not None:
        figures["slowest_s"] = came["slowest_s"]
    if calm.figures.get("p99_ms") and "p99_ms" in crowded.figures:
        figures["p99_ratio"] = crowded.figures["p99_ms"] / calm.figures["p99_ms"]
    return outcome


async def _links_made(stage: Stage) -> float:
    """How often the server has connected to Redis, by its own count.

    Raises:
        BenchError: it does not say.
    """
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as client:
        answer = await client.get(stage.ready[0].replace("/readyz", "/metrics"))
    for line in answer.text.splitlines():
        if line.startswith(LINKS_MADE):
            return float(line.removeprefix(LINKS_MADE))
    raise BenchError(f"there are no metrics at {stage.ready[0]}'s server")


async def _idle(stage: Stage, scenario: Scenario, bed: Bed) -> Round:
    outcome = Round()
    # One entry each, so that the operations exist and have something to be replayed.
    await stage.publisher.ask(
        "fill", timeout_s=ANSWER_S, operations=scenario.operations, entries_each=1
    )
    (server,) = stage.servers
    before = rss_bytes(server.pid)
    async with bed.watch(stage):
        opened = await _open(stage, scenario, outcome, in_flight=IN_FLIGHT)
    await asyncio.sleep(SETTLE_S)  # what is measured is a time without events
    clock = stage.clock()
    await asyncio.sleep(bed.seconds)
    meter = stage.since(clock)
    after = rss_bytes(server.pid)
    figures = outcome.figures
    figures["opened_pct"] = 100 * opened["opened"] / opened["expected"]
    figures["open_seconds"] = opened["seconds"]
    figures["rss_before_mib"] = before / 2**20
    figures["rss_after_mib"] = after / 2**20
    if opened["opened"]:
        figures["rss_kib_per_connection"] = (after - before) / 1024 / opened["opened"]
        figures["idle_cpu_us"] = meter.server_s * 1e6 / meter.seconds / opened["opened"]
    # They must still be there: one entry to each operation, unhurried.
    expected = scenario.viewers
    await stage.viewers.ask("reset", timeout_s=ANSWER_S, capacity=expected)
    sent = await stage.publisher.ask(
        "publish",
        timeout_s=ANSWER_S,
        operations=scenario.operations,
        entries=scenario.operations,
        per_second=scenario.operations / 2,
    )
    seen = await _wait(stage, expected, bed.quiet_s)
    outcome.raw |= {"publisher": sent, "viewers": seen, "opened": opened}
    _count(outcome, expected=expected, seen=seen)
    _bed_figures(outcome, meter, pinned=stage.pinning.apart)
    return outcome


async def _connects(stage: Stage, scenario: Scenario, bed: Bed) -> Round:
    outcome = Round()
    await stage.viewers.ask(
        "open",
        timeout_s=OPEN_S + ANSWER_S,
        ports=stage.ports,
        operations=50,
        viewers_each=4,
        in_flight=IN_FLIGHT,
        deadline_s=OPEN_S,
        first=scenario.operations,
        way=stage.subject.speaks.name,
        **_tokens(scenario),
    )
    clock = stage.clock()
    async with bed.watch(stage):
        opened = await _open(stage, scenario, outcome, in_flight=IN_FLIGHT)
        meter = stage.since(clock)
        left = await stage.viewers.ask(
            "leave", timeout_s=OPEN_S + ANSWER_S, in_flight=IN_FLIGHT, deadline_s=OPEN_S
        )
        await asyncio.sleep(SETTLE_S)
    whole = stage.since(clock)
    if left["lost"]:
        outcome.problems.append(f"did not end as they should: {left['lost']}")
    outcome.raw["left"] = left
    figures = outcome.figures
    if left["left"]:
        # With those that were open before: a fiftieth.
        figures["cpu_us_with_close"] = whole.server_s * 1e6 / left["left"]
    figures["opened_pct"] = 100 * opened["opened"] / opened["expected"]
    figures["connects_per_s"] = opened["opened"] / opened["seconds"]
    figures["handshake_p50_ms"] = opened["handshake_p50_ms"]
    figures["handshake_p99_ms"] = opened["handshake_p99_ms"]
    if opened["opened"]:
        figures["connects_per_cpu_s"] = opened["opened"] / meter.server_s
        figures["cpu_us_per_connect"] = meter.server_s * 1e6 / opened["opened"]
        figures["user_us_per_connect"] = meter.server_user_s * 1e6 / opened["opened"]
        figures["load_us_per_connect"] = meter.viewers_s * 1e6 / opened["opened"]
        figures["redis_us_per_connect"] = meter.redis_s * 1e6 / opened["opened"]
    outcome.raw["opened"] = opened
    _bed_figures(outcome, meter, pinned=stage.pinning.apart)
    if figures["server_core_pct"] < 90:
        outcome.problems.append(
            f"the server used {figures['server_core_pct']:.0f} % of its core only: something else "
            "set the pace, see the CPU per connect"
        )
    return outcome


async def _joins(stage: Stage, scenario: Scenario, bed: Bed) -> Round:
    outcome = Round()
    await stage.publisher.ask(
        "fill",
        timeout_s=ANSWER_S,
        operations=scenario.operations,
        entries_each=scenario.history,
    )

    async def joins(seconds: float, in_flight: int) -> dict[str, Any]:
        return await stage.viewers.ask(
            "joins",
            timeout_s=ANSWER_S + 2 * seconds,
            ports=stage.ports,
            operations=scenario.operations,
            entries_each=scenario.history,
            in_flight=in_flight,
            seconds=seconds,
        )

    await joins(bed.warm_up_s, JOINS_AT_A_TIME)
    alone = await joins(bed.seconds / 2, 1)
    clock = stage.clock()
    async with bed.watch(stage):
        many = await joins(bed.seconds, JOINS_AT_A_TIME)
    meter = stage.since(clock)
    figures = outcome.figures
    started = alone["expected"] + many["expected"]
    figures["joined_pct"] = 100 * (alone["joined"] + many["joined"]) / started
    figures["joins_per_s"] = many["joined"] / many["seconds"]
    if alone["joined"]:
        figures["join_p50_ms"] = alone["p50_ms"]
        figures["join_p99_ms"] = alone["p99_ms"]
    if many["joined"]:
        entries = many["joined"] * scenario.history
        figures["cpu_ms_per_join"] = meter.server_s * 1e3 / many["joined"]
        figures["cpu_us_per_entry"] = meter.server_s * 1e6 / entries
        figures["redis_us_per_entry"] = meter.redis_s * 1e6 / entries
        figures["load_us_per_entry"] = meter.viewers_s * 1e6 / entries
    outcome.raw |= {"alone": alone, "many": many}
    for answer in (alone, many):
        if answer["joined"] != answer["expected"]:
            outcome.problems.append(
                f"{answer['joined']} of {answer['expected']} joins got the whole history: "
                f"{answer['lost'] or 'the rest took too long'}"
            )
    _bed_figures(outcome, meter, pinned=stage.pinning.apart)
    return outcome


async def _tokens_of_a_text(scenario: Scenario, subject: Subject, bed: Bed) -> Round:
    """The same viewers twice: with each token as a frame, and with joined ones."""
    outcome = Round()
    figures = outcome.figures
    target = operation_name(0)
    complete: list[float] = []
    # An empty list of types: nothing is joined.
    for label, more in (("each", ("--set", "topic.append_types=")), ("joined", ())):
        async with (
            staged(
                subject.with_args(more), redis_server=bed.redis_server, pinning=bed.pinning
            ) as stage,
            running(
                *("readers", (sys.executable, "-m", "bench.late_readers")),
                folder=stage.folder,
                cores=stage.pinning.rest,
                talks=True,
            ) as readers,
        ):
            await stage.publisher.ask(
                "fill_tokens", timeout_s=ANSWER_S, name=target, tokens=scenario.history
            )
            readers_ns, clock = cpu_ns(readers.pid), stage.clock()
            async with bed.watch(stage):
                read = await readers.ask(
                    "read",
                    timeout_s=TEXT_S + ANSWER_S,
                    port=stage.ports[0],
                    operation=target,
                    viewers=scenario.viewers,
                    tokens=scenario.history,
                    at_a_time=IN_FLIGHT,
                    patience_s=TEXT_S,
                )
            meter = stage.since(clock)
            readers_s = (cpu_ns(readers.pid) - readers_ns) / 1e9
        text = read.pop("text")
        if text != "".join(map(token, range(scenario.history))):
            outcome.problems.append(f"{label}: the text is not the one that was written")
        if read["complete"] != read["expected"]:
            outcome.problems.append(f"{label}: some have not all of the text: {read['lost']}")
        complete.append(100 * read["complete"] / read["expected"])
        outcome.raw[label] = read
        each = 1 / scenario.viewers
        figures[f"frames_{label}"] = read["frames"] * each
        figures[f"kib_{label}"] = read["bytes"] / 1024 * each
        figures[f"cpu_ms_{label}"] = meter.server_s * 1e3 * each
        figures[f"redis_ms_{label}"] = meter.redis_s * 1e3 * each
        figures[f"load_ms_{label}"] = readers_s * 1e3 * each
        figures[f"text_p50_ms_{label}"] = read["p50_ms"]
        figures[f"text_p99_ms_{label}"] = read["p99_ms"]
        _bed_figures(
            outcome,
            replace(
                meter,
                viewers_s=meter.viewers_s + readers_s,
                others_s=max(0.0, meter.others_s - readers_s),
            ),
            pinned=bed.pinning.apart,
        )
    for name in ("frames", "cpu"):
        unit = "_ms" if name == "cpu" else ""
        before = figures[f"{name}{unit}_each"]
        figures[f"{name}_ratio"] = figures[f"{name}{unit}_joined"] / before
    figures["joined_pct"] = min(complete)
    return outcome


async def _replicas(scenario: Scenario, subject: Subject, bed: Bed) -> Round:
    outcome = Round()
    parts: dict[str, Round] = {}
    for label, replicas in (("one", 1), ("all", scenario.replicas)):
        async with staged(
            subject,
            redis_server=bed.redis_server,
            pinning=bed.pinning.loosened(),
            replicas=replicas,
        ) as stage:
            part = await _live(stage, scenario, bed)
        parts[label] = part
        outcome.raw[label] = part.raw
        outcome.problems += [f"{replicas} replicas: {problem}" for problem in part.problems]
        outcome.figures |= {f"{name}_{label}": value for name, value in part.figures.items()}
    one, everyone = parts["one"].figures, parts["all"].figures
    outcome.figures["redis_ratio"] = everyone["redis_us_per_entry"] / one["redis_us_per_entry"]
    outcome.figures["delivered_pct"] = min(one["delivered_pct"], everyone["delivered_pct"])
    return outcome


async def _open(
    stage: Stage, scenario: Scenario, outcome: Round, *, in_flight: int
) -> dict[str, Any]:
    opened = await stage.viewers.ask(
        "open",
        timeout_s=OPEN_S + ANSWER_S,
        ports=stage.ports,
        operations=scenario.operations,
        viewers_each=scenario.viewers_each,
        in_flight=min(in_flight, MANY_IN_FLIGHT) if scenario.sockets else in_flight,
        deadline_s=OPEN_S,
        way=(stage.subject.speaks if scenario.way is Way.SOCKET else scenario.way).name,
        sockets=scenario.sockets,
        **_tokens(scenario),
    )
    if opened["opened"] != opened["expected"]:
        outcome.problems.append(
            f"{opened['opened']:,} of {opened['expected']:,} viewers could connect: "
            f"{opened['lost'] or f'no more in {OPEN_S:.0f} s'}"
        )
    return opened


def _tokens(scenario: Scenario) -> dict[str, Any]:
    if not scenario.connections_per_user:
        return {}
    return {"secret": SECRET, "connections_per_user": scenario.connections_per_user}


async def _publish(
    stage: Stage, scenario: Scenario, bed: Bed, seconds: float
) -> tuple[dict[str, Any], dict[str, Any], list[int]]:
    """Publish for `seconds` and wait for all of it: what was sent, what was seen, latencies."""
    entries = max(1, round(scenario.per_second * seconds))
    expected = entries * scenario.viewers_each * len(stage.ports)
    await stage.viewers.ask("reset", timeout_s=ANSWER_S, capacity=expected)
    sent = await stage.publisher.ask(
        "publish",
        timeout_s=seconds * 4 + ANSWER_S,
        operations=scenario.operations,
        entries=entries,
        per_second=scenario.per_second,
    )
    sent["expected"] = expected
    seen = await _wait(stage, expected, bed.quiet_s)
    latencies = array("q")
    path = stage.folder / "latencies"
    with path.open("rb") as file:
        latencies.fromfile(file, path.stat().st_size // latencies.itemsize)
    return sent, seen, sorted(latencies)


async def _wait(stage: Stage, expected: int, quiet_s: float) -> dict[str, Any]:
    return await stage.viewers.ask(
        "wait",
        timeout_s=DRAIN_S + ANSWER_S,
        expected=expected,
        quiet_s=quiet_s,
        deadline_s=DRAIN_S,
        latencies=str(stage.folder / "latencies"),
    )


def _count(outcome: Round, *, expected: int, seen: dict[str, Any]) -> None:
    """Deliveries against what had to arrive, and every way in which they differ."""
    delivered = seen["delivered"]
    outcome.figures["delivered_pct"] = 100 * delivered / expected
    if delivered != expected:
        outcome.problems.append(
            f"NOT EVERYTHING ARRIVED: {delivered:,} of {expected:,} deliveries "
            f"({100 * delivered / expected:.2f} %), {seen['missed']:,} skipped over"
        )
    if seen["repeated"]:
        outcome.problems.append(f"{seen['repeated']:,} deliveries came twice or out of order")
    if seen["lost"]:
        outcome.problems.append(f"connections were lost: {seen['lost']}")
    other = {name: count for name, count in seen["other"].items() if name != "current_state"}
    if other:
        outcome.problems.append(f"frames that are no entries: {other}")


def _bed_figures(outcome: Round, meter: Meter, *, pinned: bool) -> None:
    """What the bed itself used, and whether it may have limited the server."""
    shares = meter.shares()
    outcome.figures |= shares
    outcome.figures["measured_s"] = meter.seconds
    load = shares["viewers_core_pct"] + shares["publisher_core_pct"] + shares["redis_core_pct"]
    outcome.figures["load_core_pct"] = load
    if pinned and load > LOAD_CORE_PCT:
        outcome.problems.append(
            f"viewers, publisher and Redis used {load:.0f} % of their core: they may be the limit"
        )
    if shares["others_core_pct"] > OTHERS_CORE_PCT:
        outcome.problems.append(
            f"other processes used {shares['others_core_pct']:.0f} % of a core meanwhile"
        )
