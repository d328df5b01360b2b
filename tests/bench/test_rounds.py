"""Whole rounds, tiny, against the naive server: what goes in comes out, and what is lost is seen.

Nothing here looks at how fast anything was.
"""

import sys
from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.measures import Bed, Round, Watch, play, unwatched
from bench.report import metrics_cost, workers_cost
from bench.results import Outcome, document
from bench.scenarios import Kind, Scenario, scenario_named
from bench.scraping import scraped
from bench.stage import Pinning, redis_binary
from bench.subjects import NAIVE, Subject, gateway, with_and_without_metrics, with_workers

#: A round starts several processes; 81 s for the longest one with a load of 9 on two cores.
pytestmark = [pytest.mark.real("valkey9"), pytest.mark.timeout(400)]

SECONDS = 0.5
TINY = replace(scenario_named("200x10"), name="tiny", operations=2, viewers_each=3, per_second=200)
EXPECTED = round(TINY.per_second * SECONDS) * TINY.viewers_each


async def one_round(
    scenario: Scenario,
    subject: Subject = NAIVE,
    watch: Watch = unwatched,
    *,
    seconds: float = SECONDS,
    quiet_s: float = 10.0,
) -> Round:
    """`quiet_s` is waited for only where something is missing."""
    bed = Bed(redis_binary(), Pinning.choose(), seconds, watch, warm_up_s=0.2, quiet_s=quiet_s)
    return await play(scenario, subject, bed)


def faulty(fault: str) -> Subject:
    return replace(
        NAIVE,
        name=fault,
        argv=(sys.executable, "-m", "tests.bench.faulty", fault, *NAIVE.argv[3:]),
    )


def loud(one: Round) -> list[str]:
    """Problems of the server; the bed may have its own on a busy machine."""
    bed = ("other processes", "the publisher was late", "viewers, publisher and Redis")
    return [problem for problem in one.problems if not problem.startswith(bed)]


async def test_everything_that_was_published_is_counted_once() -> None:
    one = await one_round(TINY)

    figures = one.figures
    assert loud(one) == []
    assert one.raw["publisher"]["sent"] == EXPECTED / TINY.viewers_each
    assert one.raw["viewers"]["delivered"] == EXPECTED
    assert one.raw["viewers"]["overflow"] == 0
    assert figures["delivered_pct"] == 100
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["p999_ms"] <= figures["max_ms"]
    assert figures["max_ms"] < figures["measured_s"] * 1000
    # The figures are parts of the same stretch: CPU per delivery, times deliveries, is the share.
    server_s = figures["cpu_us_per_delivery"] * EXPECTED / 1e6
    share_s = figures["server_core_pct"] / 100 * figures["measured_s"]
    assert server_s == pytest.approx(share_s, rel=1e-6)
    assert figures["redis_us_per_entry"] > 0
    assert figures["publisher_late_max_ms"] >= figures["publisher_late_p99_ms"]


async def test_every_figure_of_the_table_is_measured() -> None:
    one = await one_round(TINY)

    assert {row.metric for row in TINY.rows} <= one.figures.keys()
    data = document([Outcome(TINY, {"naive": [one]})], {"made_at": "now"})
    summary = data["scenarios"][0]["subjects"]["naive"]["summary"]
    assert summary["delivered_pct"] == {"median": 100.0, "low": 100.0, "high": 100.0}


@pytest.mark.parametrize(
    "fault",
    [
        "repeat",
        "swap",  # what it misses is told as with `drop`
        pytest.param("drop", marks=pytest.mark.full),
    ],
)
async def test_a_server_with_a_fault_is_found_out(fault: str) -> None:
    one = await one_round(TINY, faulty(fault), quiet_s=3.0)

    viewers = one.raw["viewers"]
    if fault == "repeat":
        assert viewers["repeated"] > 0
        assert any("came twice or out of order" in problem for problem in one.problems)
    else:
        assert viewers["missed"] > 0
        assert one.figures["delivered_pct"] < 100
        assert any(problem.startswith("NOT EVERYTHING ARRIVED") for problem in one.problems)
    if fault == "swap":
        assert any("came twice or out of order" in problem for problem in one.problems)


async def test_idle_viewers_are_weighed_and_still_there_afterwards() -> None:
    idle = replace(scenario_named("idle"), operations=5, viewers_each=4)
    one = await one_round(idle)

    assert loud(one) == []
    assert {row.metric for row in idle.rows} <= one.figures.keys()
    assert one.raw["viewers"]["delivered"] == idle.viewers
    assert one.figures["rss_after_mib"] >= one.figures["rss_before_mib"]


async def test_connects_are_counted_up_to_the_first_frame() -> None:
    connects = replace(scenario_named("connects"), operations=10, viewers_each=5)
    one = await one_round(connects)

    assert {row.metric for row in connects.rows} <= one.figures.keys()
    assert one.raw["opened"]["opened"] == connects.viewers
    assert one.figures["opened_pct"] == 100


async def test_joins_read_the_whole_history() -> None:
    joins = replace(scenario_named("join"), operations=3, history=40)
    one = await one_round(joins)

    assert loud(one) == []
    assert {row.metric for row in joins.rows} <= one.figures.keys()
    assert one.figures["joined_pct"] == 100
    assert one.raw["many"]["joined"] > 0


@pytest.mark.full
async def test_replicas_are_compared_on_the_same_load() -> None:
    replicas = replace(scenario_named("replicas"), operations=4, per_second=200, replicas=2)
    one = await one_round(replicas)

    assert {row.metric for row in replicas.rows} <= one.figures.keys()
    sent = one.raw["all"]["publisher"]["sent"]
    assert one.raw["one"]["viewers"]["delivered"] == sent
    assert one.raw["all"]["viewers"]["delivered"] == 2 * sent


async def test_a_server_that_does_not_start_shows_the_end_of_its_log() -> None:
    from bench.errors import ProcessFailed

    broken = Subject("broken", (sys.executable, "-c", "raise SystemExit('no such flag')"), "")

    with pytest.raises(ProcessFailed, match="no such flag"):
        await one_round(TINY, replace(broken, ready=NAIVE.ready))


async def test_users_are_signed_in_and_counted() -> None:
    scenario = scenario_named("connects-jwt")
    tiny = replace(scenario, operations=10, viewers_each=6, connections_per_user=5)
    one = await one_round(tiny, gateway())

    assert {row.metric for row in tiny.rows} <= one.figures.keys()
    assert one.raw["opened"] == one.raw["opened"] | {"opened": 60, "expected": 60, "lost": {}}


@pytest.mark.full
async def test_the_gateway_is_measured_with_metrics_and_without() -> None:
    """Both deliver; the one is scraped, the other would have nothing to be scraped of."""
    measured, unmeasured = with_and_without_metrics()
    asked = replace(unmeasured, scraped=measured.scraped)

    outcome = Outcome(TINY)
    for subject in (measured, unmeasured):
        outcome.rounds[subject.name] = [await one_round(TINY, subject, scraped)]
        assert outcome.rounds[subject.name][0].figures["delivered_pct"] == 100
    assert "with metrics over that without" in metrics_cost(outcome)
    with pytest.raises(BenchError, match="answered 404"):
        await one_round(TINY, asked, scraped)


@pytest.mark.full
@pytest.mark.parametrize("times", [1, 2])
async def test_workers_are_measured_together_beside_one_process(times: int) -> None:
    outcome = Outcome(TINY)
    sent = []
    for subject in with_workers(2, load_for_each=times == 2):
        outcome.rounds[subject.name] = [await one_round(TINY, subject)]
        assert outcome.rounds[subject.name][0].figures["delivered_pct"] == 100
        sent.append(outcome.rounds[subject.name][0].raw["publisher"]["sent"])
    assert sent[1] == times * sent[0]
    assert "2 workers over that of one process" in workers_cost(outcome)


@pytest.mark.full
async def test_a_gang_does_its_harm_beside_the_viewers() -> None:
    tiny = replace(TINY, kind=Kind.HOSTILE, gang=1, rows=scenario_named("hostile").rows)
    one = await one_round(tiny, gateway(), seconds=SECONDS)
    for longer in (4.0, 20.0):  # on a busy machine it takes the gang longer to be thrown out
        if "pings: close 4400" in one.raw["gang"]["ended"]:
            break
        one = await one_round(tiny, gateway(), seconds=longer)

    assert {row.metric for row in tiny.rows} <= one.figures.keys()
    assert one.figures["delivered_pct"] == 100
    assert one.raw["gang"]["ended"]["pings: close 4400"] >= 1


@pytest.mark.parametrize("name", ["refresh", "source"])
async def test_another_user_is_answered_beside_one_who_means_harm(name: str) -> None:
    scenario = scenario_named(name)
    one = await one_round(scenario, gateway(), seconds=SECONDS)

    assert {row.metric for row in scenario.rows} <= one.figures.keys()
    assert one.figures["answered_pct"] == 100
    assert one.raw["attacker"]["done"]
    with pytest.raises(BenchError, match="knows no users"):
        await one_round(scenario)


async def test_many_come_at_once_beside_the_viewers() -> None:
    burst = scenario_named("burst")
    tiny = replace(burst, operations=2, per_second=200, arrivals=5, history=11, pad=100)
    one = await one_round(tiny, gateway())

    assert {row.metric for row in tiny.rows} <= one.figures.keys()
    assert one.raw["arrivals"]["expected"] == 5
    assert one.raw["arrivals"]["arrived"] == 5, one.raw["arrivals"]["lost"]
    assert one.figures["cuts"] == 0
    assert one.figures["delivered_pct"] == 100


def test_each_kind_of_scenario_is_in_the_list() -> None:
    from bench.scenarios import SCENARIOS

    assert {scenario.kind for scenario in SCENARIOS} == set(Kind)


async def test_late_readers_of_a_text_are_measured_with_and_without_joining() -> None:
    scenario = scenario_named("tokens")
    one = await one_round(replace(scenario, viewers_each=3, history=300), gateway())

    assert loud(one) == []
    figures = one.figures
    assert all(row.metric in figures for row in scenario.rows)
    assert figures["joined_pct"] == 100
    assert figures["frames_each"] == 300
    assert figures["frames_joined"] <= 3
    assert figures["kib_joined"] < figures["kib_each"]
