"""Traces through the decisions of the operator: what no trace may make it do."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tests.operator.observing import spec
from tidegate.model.errors import InvalidInput
from tidegate_operator.decide.records import Balance, DeletionCost, Reason, Shed
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.simulate.chart import LOAD, OVER, ROOM, chart
from tidegate_operator.simulate.cluster import Balancer, SimulatedCluster
from tidegate_operator.simulate.replay import Replay, World, replay
from tidegate_operator.simulate.trace import BUILT_IN, ROWS_MAX, Point, built_in, read_trace

STEP_UP, STEP_DOWN = 4, 1


def run(name: str, world: World | None = None, **more: Any) -> Replay:
    wanted = spec(rebalance={}, connectionsPerPod=10_000, max=20, **more)
    return replay(wanted, built_in(name), world or World())


@pytest.mark.parametrize("name", sorted(BUILT_IN))
@pytest.mark.parametrize("interval_s", [pytest.param(5.0, marks=pytest.mark.full), 15.0, 40.0])
def test_no_trace_makes_it_flap_or_jump_or_act_blindly(name: str, interval_s: float) -> None:
    made = run(name, World(interval_s=interval_s))
    assert made.summary.turns == 0, "no step back within the window"
    assert made.summary.blind_changes == 0, "unknown figures change nothing"
    for one in made.samples:
        assert one.after - one.replicas <= max(STEP_UP, one.replicas)
        assert one.replicas - one.after <= max(STEP_DOWN, one.replicas // 10)
        assert 2 <= one.after <= 20
        if not one.known:
            assert one.after == one.replicas


def test_a_step_is_met_in_two_steps_and_given_back_slowly() -> None:
    made = run("step").summary
    assert (made.replicas_least, made.replicas_most) == (2, 6)
    assert made.over_target_s <= 60
    assert (made.ups, made.downs, made.step_max) == (1, 3, 4)


def test_a_ramp_is_followed() -> None:
    made = run("ramp").summary
    assert made.replicas_most == 8
    # A pod is added at five per cent above the target, and starts for 20 s.
    assert made.over_target_s <= 0.1 * made.duration_s
    assert made.ups == made.downs == 6


def test_a_flash_crowd_is_met_within_two_minutes() -> None:
    made = run("flash-crowd").summary
    assert made.replicas_most == 12
    assert made.over_target_s <= 120
    assert made.downs == 10, "one at a time"


def test_a_day_has_one_wave() -> None:
    made = run("daily-wave", World(interval_s=15.0))
    moves = [one for one in made.samples if one.after != one.replicas]
    rises = [one.after > one.replicas for one in moves]
    assert sum(a != b for a, b in pairwise(rises)) == 3, "up, down, up, down"


def test_a_flapping_figure_is_believed_at_its_highest() -> None:
    made = run("flapping-metric").summary
    assert (made.ups, made.downs) == (1, 0)
    assert made.replicas_most == 5


def test_missing_figures_hold_and_then_a_whole_window_must_pass() -> None:
    made = run("missing-metric")
    blind = [one for one in made.samples if not one.known]
    assert {one.decision.reason for one in blind} == {Reason.UNKNOWN}
    assert {one.after for one in blind} == {5}
    seen_again = max(one.t_s for one in blind)
    downs = [one.t_s for one in made.samples if one.after < one.replicas]
    assert downs
    assert min(downs) >= seen_again + 600


def test_rebalancing_fills_the_new_pods() -> None:
    made = run("step", World(balancer=Balancer.LEAST))
    shed = [one for one in made.samples if one.decision.shed]
    assert shed
    assert made.samples[-1].decision.balance is Balance.EVEN
    rate = sum(order.connections / order.over_s for order in shed[0].decision.shed)
    assert rate <= 50 + 1e-9
    assert made.summary.shed < run("step").summary.shed, "the emptiest pod next: fewer moves"


POINTS = st.lists(
    st.tuples(
        st.integers(30, 600),
        st.integers(0, 150_000),
        st.sampled_from([1.0] * 6 + [0.5, 0.0]),
    ),
    min_size=2,
    max_size=12,
)


@given(POINTS, st.sampled_from(Balancer), st.integers(0, 90), st.integers(0, 90))
@settings(max_examples=examples(40), deadline=None)
def test_no_trace_at_all_does(
    parts: list[tuple[int, int, float]], balancer: Balancer, start_s: int, drain_s: int
) -> None:
    t_s, trace = 0, []
    for lasts, load, leases in parts:
        trace.append(Point(t_s, load, leases=leases))
        t_s += lasts
    wanted: GatewaySpec = spec(rebalance={}, connectionsPerPod=10_000, max=12)
    world = World(interval_s=15.0, start_s=start_s, drain_s=drain_s, balancer=balancer)
    made = replay(wanted, trace, world)
    assert made.summary.blind_changes == 0
    for place, one in enumerate(made.samples):
        assert one.after - one.replicas <= max(STEP_UP, one.replicas)
        assert one.replicas - one.after <= STEP_DOWN
        if one.after < one.replicas:
            window = [s for s in made.samples[:place] if s.t_s > one.t_s - 600]
            needed = [s for s in window if s.after > s.replicas]
            assert all(s.after <= one.replicas for s in needed)
            assert all(s.known for s in window), "a whole window was seen"


# --- the model of the cluster


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 6), st.integers(0, 200)), max_size=30),
    st.sampled_from(Balancer),
)
@settings(deadline=None)
def test_the_model_loses_nobody(steps: list[tuple[int, int, int]], balancer: Balancer) -> None:
    cluster = SimulatedCluster(start_s=10, drain_s=20, balancer=balancer)
    cluster.begin(2)
    for load, replicas, shed in steps:
        cluster.scale(replicas)
        cluster.shed([Shed(name, shed, 10.0) for name in cluster.connections_by_pod if shed])
        cluster.advance(5.0, Point(0, load))
        assert cluster.connections + cluster.waiting == load
        assert all(count >= 0 for count in cluster.connections_by_pod.values())
        assert cluster.replicas == replicas


def test_the_model_takes_the_cheapest_pod() -> None:
    cluster = SimulatedCluster()
    cluster.begin(3)
    cluster.advance(0.0, Point(0, 30))
    cluster.annotate([DeletionCost("pod-1", -1)])
    cluster.scale(2)
    assert set(cluster.connections_by_pod) == {"pod-0", "pod-2"}
    for _ in range(8):
        cluster.advance(5.0, Point(0, 30))
    assert cluster.connections_by_pod == {"pod-0": 15, "pod-2": 15}
    assert cluster.reconnects == 10


# --- trace files


def test_csv_and_json_lines_say_the_same() -> None:
    csv = "t,connections,loop_lag_ms,leases\n0,100,,1\n60,, 3 ,1\n120,50,2,0.5\n"
    lines = (
        '{"t":0,"connections":100,"loop_lag_ms":null,"leases":1}\n'
        '{"t":60,"connections":null,"loop_lag_ms":3,"leases":1}\n\n'
        '{"t":120,"connections":50,"loop_lag_ms":2,"leases":0.5}\n'
    )
    assert read_trace(csv) == read_trace(lines) == read_trace("\ufeff" + csv)
    assert read_trace(csv.replace("\n", "\r\n")) == read_trace(csv)
    first, second, third = read_trace(csv)
    assert (first.connections, first.loop_lag_ms, first.leases) == (100, 1.0, 0.0)
    assert (second.connections, second.leases) == (100, 0.0), "the load goes on, unseen"
    assert (third.connections, third.leases) == (50, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the header must name t, connections"),
        ("a,b\n1,2\n", "each once; not 'a'"),
        ("t\n1\n", "line 1: the header must name"),
        ("t,connections\n0,1\n", "needs at least two rows"),
        ("t,connections\n0,1\n0,2\n", "line 3, t: must be above 0"),
        ("t,connections\n0,1\n5,-2\n", "line 3, connections: must be a number from 0"),
        ("t,connections\n0,1\n5,nan\n", "line 3, connections"),
        ("t,connections\n0,1\n5,inf\n", "line 3, connections"),
        ("t,connections\n0,1\n1e300,2\n", "line 3, t"),
        ("t,connections\n0,1\n,2\n", "line 3, t: is missing"),
        ("t,connections\n0,1\n5,2,3\n", "line 3: has more cells"),
        ("t,connections\n0,1\n5\n", "line 3, connections: is missing"),
        ("t,connections,leases\n0,1,2\n", "line 2, leases: must be a number from 0 to 1"),
        ('t,connections\n0,"1\n', "line 2: unexpected end of data"),
        ("t,connections\n0," + "9" * 4_301 + "\n", "line 2, connections"),
        ('{"t":0,"connections":true}\n', "line 1, connections"),
        ('{"t":0,"connections":[1]}\n', "line 1, connections"),
        ('{"t":0}\n', "line 1, connections: is missing"),
        ('{"t":0,"connections":1,"x":1}\n', "'x' is none of"),
        ("{not json\n", "line 1: is not JSON"),
        ('{"t":0,"connections":1}\n[1]\n', "line 2: must be an object"),
        ("{" * 100_000 + "\n", "line 1: is not JSON"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_trace(text)
    assert said in str(caught.value)


def test_a_trace_has_an_end() -> None:
    rows = "".join(f"{n},1\n" for n in range(ROWS_MAX + 1))
    with pytest.raises(InvalidInput, match="at most"):
        read_trace("t,connections\n" + rows)


@given(st.text(max_size=200))
def test_any_text_is_a_trace_or_an_error(text: str) -> None:
    for head in ("", "t,connections\n", '{"t":'):
        try:
            assert len(read_trace(head + text)) >= 2
        except InvalidInput as error:
            assert str(error)  # noqa: PT017 - one of two allowed ends


# --- the picture and the command


def test_the_picture_shows_load_room_and_what_is_too_much() -> None:
    lines = chart(run("step").samples, per_pod=10_000, width=60, height=12)
    assert all(len(line) <= 60 for line in lines)
    drawn = "\n".join(lines)
    assert LOAD in drawn
    assert OVER in drawn
    assert ROOM in drawn
    assert lines[-1].endswith("3 h 00")
    bottom = lines[-3].partition("|")[2]
    assert set(bottom) == {LOAD}, "a pod's worth of load all the time"


def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidegate_operator.cli.main", "simulate", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_draws_and_sums_up() -> None:
    made = command("--trace", "flash-crowd", "--max", "20")
    assert made.returncode == 0, made.stderr
    assert "2 to 12" in made.stdout
    assert LOAD in made.stdout


def test_the_command_reads_files_and_writes_json(tmp_path: Path) -> None:
    resource = tmp_path / "gateway.yaml"
    resource.write_text(
        "apiVersion: tidegate.dev/v1alpha1\nkind: Gateway\nmetadata: {name: x}\n"
        "spec: {target: {name: x}, scaling: {connectionsPerPod: 100, max: 6}}\n"
    )
    arguments = ("--trace", "-", "--gateway", str(resource), "--max", "5", "--json")
    made = command(*arguments, stdin="t,connections\n0,150\n300,900\n900,900\n")
    assert made.returncode == 0, made.stderr
    body = json.loads(made.stdout)
    assert body["summary"]["replicas_most"] == 5
    assert body["decisions"][-1]["limited"]
    assert body["decisions"][0]["reason"] == "Steady"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--trace", "no-such-file"), "no-such-file: cannot be read: No such file or directory"),
        (("--trace", "step", "--min", "9", "--max", "3"), "scaling.min must be at most"),
        (("--trace", "step", "--connections-per-pod", "0"), "spec.scaling.connectionsPerPod"),
        (("--trace", "step", "--gateway", "/dev/null"), "must be a Gateway resource"),
        (("--trace", "step", "--balancer", "magic"), "--balancer: must be turn or least"),
        (("--trace", "/proc/self/mem"), "cannot be read"),
        (("--trace", "/dev/zero"), "is larger than"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    made = command(*arguments)
    assert made.returncode == 2
    assert said in " ".join(made.stderr.split())
    assert "Traceback" not in made.stderr
