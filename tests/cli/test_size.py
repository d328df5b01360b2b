"""`tidegate size`: the calculation, its figures against the documentation, and the command."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import invoke
from tests.docs.console import ROOT
from tidegate.cli import size_figures as figures
from tidegate.cli.size_costs import (
    REDIS_PARTS,
    REPLICA_PARTS,
    Work,
    coalesced,
    redis_cpu,
    redis_parts,
    replica_cpu,
    replica_parts,
)
from tidegate.cli.size_limits import spread_s, uses
from tidegate.cli.size_plan import Load, LoadTooLarge, size_plan, work_of
from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.errors import InvalidInput
from tidegate.model.frames import FrameKind, entry_frame
from tidegate.model.ids import StreamId

LOADS = st.builds(
    Load,
    viewers=st.integers(1, 10**6),
    operations=st.integers(100, 10**6),
    entries_per_second=st.floats(0.01, 10**5),
    watches=st.integers(1, 100),
    spare_replicas=st.integers(0, 3),
    workers=st.integers(1, 5),
    core_share=st.floats(0.1, 0.9),
)
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text("utf-8")
SIZING = (ROOT / "docs" / "sizing.md").read_text("utf-8")


def rows(page: str, mark: str) -> list[list[str]]:
    """The cells of a table between two marks, without its head."""
    part = page.partition(f"<!-- {mark} -->")[2].partition("<!-- end -->")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(cell: str) -> float:
    found = re.match(r"[\d,.]+", cell)
    assert found, cell
    return float(found[0].replace(",", ""))


@given(LOADS)
def test_each_replica_has_what_was_asked_for(load: Load) -> None:
    try:
        plan = size_plan(load)
    except LoadTooLarge:
        return
    replica = plan.replica
    assert replica.connections <= load.connections_per_replica
    assert replica.cpu <= load.core_share
    assert 0.1 <= replica.cpu_request <= 1.0
    assert replica.followed_operations <= load.operations
    # From 80 % of its limit on a replica drops its replay buffers; it must be far from that.
    assert replica.memory_request_bytes <= replica.memory_limit_bytes * 0.67
    assert plan.replicas * replica.deliveries_per_second >= plan.deliveries_per_second * 0.999
    assert plan.redis.cpu <= plan.redis.primaries * figures.REDIS_CORE_SHARE
    # It is the smallest such number: with one less, the work is more than a replica may have.
    if plan.limit == "cpu":
        with pytest.raises(LoadTooLarge):
            size_plan(replace(load, spare_replicas=1_001 - plan.replicas + load.spare_replicas))


@given(LOADS, st.integers(2, 5))
def test_more_load_never_needs_less(load: Load, times: int) -> None:
    try:
        larger = size_plan(replace(load, viewers=load.viewers * times))
        busier = size_plan(replace(load, entries_per_second=load.entries_per_second * times))
    except LoadTooLarge:
        return
    plan = size_plan(load)
    assert larger.replicas >= plan.replicas
    assert busier.replicas >= plan.replicas
    assert busier.redis.cpu >= plan.redis.cpu


def test_entries_of_an_operation_with_many_viewers_are_not_shared() -> None:
    load = Load(viewers=100_000, operations=10, entries_per_second=30_000)
    with pytest.raises(LoadTooLarge, match=r"at most about [\d,]+ per second") as refused:
        size_plan(load)
    assert "divide the operations" in str(refused.value)
    assert size_plan(replace(load, entries_per_second=100)).replicas > 1
    with pytest.raises(LoadTooLarge, match=r"more than 1,000 replicas"):
        size_plan(Load(viewers=10**8, operations=1, entries_per_second=10))


def test_a_spare_replica_is_one_more_of_the_same() -> None:
    load = Load(viewers=30_000, operations=1_000, entries_per_second=100, spare_replicas=0)
    without, with_two = size_plan(load), size_plan(replace(load, spare_replicas=2))
    assert (without.replicas, with_two.replicas) == (3, 5)
    assert without.replica == with_two.replica
    assert without.limit == "connections"


def test_workers_of_a_machine_fail_together() -> None:
    load = Load(viewers=50_000, operations=1_000, entries_per_second=100, spare_replicas=1)
    one, four = size_plan(load), size_plan(replace(load, workers=4))
    assert (one.replicas, one.groups.count) == (6, 6)
    # Five are needed, so two machines of four, and a spare one.
    assert (four.replicas, four.groups.count) == (12, 3)
    assert four.groups.cpu_request == pytest.approx(4 * four.replica.cpu_request)
    spent = four.groups.memory_request_bytes - 4 * four.replica.memory_request_bytes
    assert 0 <= spent - figures.SUPERVISOR_BYTES < 2**20
    assert one.groups.memory_request_bytes == one.replica.memory_request_bytes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entries_per_second", float("nan")),
        ("entries_per_second", float("inf")),
        ("entries_per_second", 0),
        ("viewers", 0),
        ("viewers", 10**13),
        ("operations", -1),
        ("core_share", 0),
        ("cpu_scale", float("nan")),
        ("kept_operations", -1),
        ("watches", 11),
        ("workers", 0),
    ],
)
def test_what_no_computation_can_start_from_is_refused(field: str, value: float) -> None:
    given_values: dict[str, Any] = {"viewers": 10, "operations": 10, "entries_per_second": 1.0}
    with pytest.raises(InvalidInput) as refused:
        Load(**(given_values | {field: value}))
    assert refused.value.field == field


# --- the costs ------------------------------------------------------------------------------------

WORKS = st.builds(
    Work,
    replicas=st.integers(1, 200),
    connections=st.integers(0, 10**7),
    operations=st.integers(1, 10**6),
    following=st.floats(1, 200),
    entries_per_second=st.floats(0, 10**6),
    deliveries_per_second=st.floats(0, 10**8),
    primaries=st.integers(1, 64),
)


@given(WORKS)
def test_the_whole_is_the_sum_of_its_parts(work: Work) -> None:
    assert sum(replica_parts(work).values()) == pytest.approx(replica_cpu(work))
    assert sum(redis_parts(work).values()) == pytest.approx(redis_cpu(work) / work.primaries)


def test_those_who_only_watch_arm_again() -> None:
    work = Work(4, 0, 100, 4.0, 1_000, 0)
    assert work.rearms_per_second == pytest.approx(100 / 1.5 * 3)
    assert replace(work, entries_per_second=10.0).rearms_per_second == 30
    assert replace(work, following=1.0).rearms_per_second == 0


def test_entries_above_a_rate_share_wake_ups() -> None:
    assert coalesced(500, 0.3) == 500
    assert coalesced(3_000, 0.3) == 1_000 + 2_000 * 0.3


def test_primaries_share_the_operations() -> None:
    load = Load(viewers=10**6, operations=10**5, entries_per_second=10_000, replicas=100)
    one, many = (redis_parts(work_of(load, 100, primaries=count)) for count in (1, 32))
    assert many[REDIS_PARTS[4]] == pytest.approx(one[REDIS_PARTS[4]] / 32)


def replicas_of_least_spread(viewers: int) -> int:
    """Sending an entry to one more replica takes as long as that replica saves."""
    return round(math.sqrt(viewers * figures.REPLICA_US[5] / figures.REDIS_US[3]))


@given(st.integers(10_000, 10**7))
def test_a_relay_tree_gains_nothing_below_the_number_of_least_spread(viewers: int) -> None:
    best = replicas_of_least_spread(viewers)
    assert spread_s(viewers, best) <= spread_s(viewers, max(1, best // 2)) * 1.001
    assert spread_s(viewers, best) <= spread_s(viewers, best * 2) * 1.001


def test_what_gives_way_first_is_first() -> None:
    load = Load(viewers=10**6, operations=10**5, entries_per_second=10_000, crowd=10**6)
    found = uses(load, 100, 32)
    assert [use.share for use in found] == sorted((use.share for use in found), reverse=True)
    assert {use.resource for use in found} >= {"CPU of a replica", "CPU of a primary"}
    assert all(use.mostly and use.remedy for use in found)
    without = uses(replace(load, crowd=0), 100, 32)
    assert len(without) == len(found) - 1


# --- the figures ----------------------------------------------------------------------------------


def test_measured_costs_are_those_of_the_page() -> None:
    table = rows(PERFORMANCE, "costs")
    names = [
        *(f"replica: {part}" for part in REPLICA_PARTS),
        *(f"Redis: {part}" for part in REDIS_PARTS),
        "replica: share of further entries",
        "Redis: share of further entries",
    ]
    assert [row[0] for row in table] == names
    assert [number(row[1]) for row in table] == [
        *(*figures.REPLICA_US, *figures.REDIS_US),
        *(figures.FURTHER_SHARE, figures.REDIS_FURTHER_SHARE),
    ]
    assert (
        f"| connects with JWT and slots | per second | {figures.CONNECTS_PER_S:,} " in PERFORMANCE
    )


def test_memory_figures_are_those_of_the_page() -> None:
    assert [number(row[1]) for row in rows(PERFORMANCE, "memory")] == [
        figures.REPLICA_BYTES,
        figures.SUPERVISOR_BYTES,
        figures.CONNECTION_BYTES,
        figures.OPERATION_BYTES,
        figures.REDIS_BYTES,
        figures.REDIS_OPERATION_BYTES,
        170 + figures.REDIS_ENTRY_EXTRA_BYTES,
    ]


#: Entries per second, operations, and viewers of each.
SCENARIOS = {
    "1x2000": (20, 1, 2000),
    "100x10": (4000, 100, 10),
    "200x10": (1000, 200, 10),
    "1000x1": (5000, 1000, 1),
}


def estimated(scenario: str, figure: str) -> float:
    entries, operations, viewers = SCENARIOS[scenario]
    work = Work(1, operations * viewers, operations, 1.0, entries, entries * viewers)
    if figure == "CPU per delivery":
        return replica_cpu(work) * 1e6 / (entries * viewers)
    return redis_cpu(work) * 1e6 / entries


def test_estimates_are_as_accurate_as_the_page_says() -> None:
    table = rows(SIZING, "accuracy")
    assert len(table) == 7
    for scenario, figure, said, there, ratio in table:
        value = estimated(scenario, figure)
        assert number(said) == pytest.approx(value, rel=0.01), scenario
        assert number(ratio) == pytest.approx(number(there) / value, abs=0.011), scenario
        assert value <= number(there) * 1.45, scenario
        assert value >= number(there), scenario


def test_shapes_of_the_page_are_those_of_the_command() -> None:
    table = rows(SIZING, "shapes")
    assert len(table) >= 6
    for shape, cpu, primary, spread, first, second in table:
        viewers, operations, entries, replicas, primaries = (
            int(one.replace(",", "")) for one in shape.split(" / ")
        )
        load = Load(viewers, operations, entries, crowd=viewers)
        found = uses(load, replicas, primaries)
        shares = {use.resource: use.share for use in found}
        assert cpu == f"{shares['CPU of a replica']:.0%}".replace("%", " %")
        assert primary == f"{shares['CPU of a primary']:.0%}".replace("%", " %")
        assert spread == f"{spread_s(viewers, replicas):.2f} s"
        for said, use in ((first, found[0]), (second, found[1])):
            assert said == f"{use.resource}: {use.mostly}"


def test_the_size_of_a_frame_is_that_of_real_ones() -> None:
    operation = b"3f2b8c1e"
    data = b'{"timestamp":1795000000.123,"type":"progress","data":{"progress":0.42}}'
    entry = read_entry(
        StreamId(1795000000123, 17), RawEntry(b"1795000000123-17", [b"message", data])
    )
    frame = entry_frame(entry, b"1795000000123-17", operation, FrameKind.PROGRESS)
    extra = len(frame.payload) + 4 - len(data)
    assert abs(extra - figures.FRAME_EXTRA_BYTES) <= 16


# --- the command ----------------------------------------------------------------------------------


async def size(*arguments: str) -> Any:
    return await invoke("size", *arguments)


LOAD = ("--viewers", "10000", "--operations", "1000", "--entries-per-second", "2000")


async def test_the_command_prints_a_plan() -> None:
    done = await size(*LOAD)
    assert (done.code, done.err) == (0, "")
    for line in (
        r"^replicas +2 +the limit is connections, 1 of them",
        r"^  memory request +186 MiB",
    ):
        assert re.search(line, done.out, re.MULTILINE), done.out


async def test_a_given_number_of_replicas_is_not_questioned() -> None:
    done = await size(*LOAD, "--replicas", "1", "--crowd", "5000", "--spare", "0")
    assert done.code == 0
    assert re.search(r"^replicas +1 +the limit is the number given", done.out, re.MULTILINE)
    text = " ".join(done.out.split())
    assert "reached first: connections of a replica" in text or "CPU of a replica" in text

    told = json.loads((await size(*LOAD, "--replicas", "100", "--primaries", "32", "--json")).out)
    assert told["plan"]["redis"]["primaries"] == 32
    shares = [one["share"] for one in told["limits"]]
    assert shares == sorted(shares, reverse=True)


async def test_json_has_the_load_and_the_plan() -> None:
    done = await size(*LOAD, "--spare", "0", "--json")
    found = json.loads(done.out)
    assert found["load"]["viewers"] == 10_000
    assert found["plan"]["replicas"] == 1
    assert found["plan"]["deliveries_per_second"] == 20_000
    assert found["plan"]["redis"]["primaries"] == 1


async def test_a_load_that_no_number_of_replicas_carries() -> None:
    done = await size("--viewers", "100000", "--operations", "1", "--entries-per-second", "90000")
    assert done.code == 1
    assert "no number of replicas is enough" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--viewers", "10"),
        ("--viewers", "-1", "--operations", "1", "--entries-per-second", "1"),
        ("--viewers", "1e99", "--operations", "1", "--entries-per-second", "1"),
        ("--viewers", "9" * 30, "--operations", "1", "--entries-per-second", "1"),
        ("--viewers", "10", "--operations", "0", "--entries-per-second", "1"),
        ("--viewers", "10", "--operations", "1", "--entries-per-second", "nan"),
        ("--viewers", "10", "--operations", "1", "--entries-per-second", "inf"),
        (*LOAD, "--cpu-scale", "nan"),
        (*LOAD, "--core-share", "0.95"),
        (*LOAD, "--watches", "5000"),
        (*LOAD, "--spare", "101"),
    ],
)
async def test_hostile_values_are_refused(arguments: tuple[str, ...]) -> None:
    done = await size(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err


async def test_help_says_what_an_entry_costs() -> None:
    done = await size("--help")
    assert done.code == 0
    assert "Each entry is sent to each viewer of its operation" in " ".join(done.out.split())
