"""What a replica exposes: every row of the table with labels of the table, in a form that
Prometheus' own linter accepts, and with figures that follow what happened.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.proxy import Proxy
from tests.servers.relay_loss import PushFault
from tests.servers.standalone import Server
from tests.telemetry.collector import Collector
from tidegate.cli.top_samples import ReplicaPoller
from tidegate.core.histogram import Histogram
from tidegate.model.operation_order import OperationOrder
from tidegate.redis import dispatcher, rights
from tidegate.redis.doorbell import Doorbell
from tidegate.redis.primary import Primary
from tidegate.redis.replies import Trouble
from tidegate.runtime import drainer
from tidegate.telemetry.metric_table import OTHER, Kind, Row, TableCollector
from tidegate.telemetry.metrics import (
    REDIS_EVENTS,
    TABLE,
    VALUES_MAX,
    Numbers,
    new_registry,
)
from tidegate.telemetry.metrics_page import metrics_page

REPOSITORY = Path(__file__).parents[2]
read_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
#: A stream that is made again late is no expiry.
PATIENT = {"expired_grace_s": 60}
SECRETS = ("operation-of-alice", "alice", "operation-progress")


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str, families: list[Metric]) -> None:
        self.text = text
        self.families = {family.name: family for family in families}

    def __call__(self, name: str, **labels: str) -> float:
        """One sample's value; of a histogram its `_count`, `_sum` or `_bucket`."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(found) == 1, (name, labels, found)
        return float(found[0])


async def scrape(replica: Replica) -> Scrape:
    text = (await replica.admin("/metrics")).text
    return Scrape(text, list(text_string_to_metric_families(text)))


async def admin(replica: Replica, path: str, headers: Mapping[str, str]) -> httpx.Response:
    base = f"http://127.0.0.1:{replica.settings.server.admin_port}"
    async with plain_client(base) as client:
        return await client.get(path, headers=headers)


# --- everything, under load


async def busy(replica: Replica, backend: Backend) -> None:
    """Every way in, refusals, history, a gap, an id that is no time and a text that is not JSON."""
    operation = "operation-of-alice"
    base = f"http://127.0.0.1:{replica.settings.server.port}"
    await backend.publish_many(operation, 5)
    async with (
        replica.watch(operation, history="all") as viewer,
        connect(replica.url("").replace("/ws/operations/", "/ws"), max_queue=None) as many,
        plain_client(base) as client,
        client.stream("GET", f"/sse/operations/{operation}") as events,
    ):
        await viewer.state()
        await viewer.entries(5)
        await many.send(json.dumps({"type": "watch", "operation": operation}))
        assert json.loads(await many.recv())["type"] == "current_state"
        polling = asyncio.create_task(
            client.get(f"/operations/{operation}/events", params={"after": "9999999999999-0"})
        )
        lines = events.aiter_lines()
        await anext(lines)
        ids = await backend.publish_many(operation, 20)
        await viewer.until_id(ids[-1])
        await backend.add(operation, {"message": "{"})
        await viewer.until(type="malformed")
        assert (await polling).status_code == 200
        waiting = asyncio.create_task(
            client.get(f"/operations/{operation}/events", params={"after": "0", "wait": 20})
        )
        assert (await waiting).status_code == 200
        assert (await client.get("/sse/operations/%20")).status_code == 400
        await backend.delete(operation)
        await backend.publish(operation, entry_id="5-1")
        await viewer.until(type="gap")
        await viewer.until(id="5-1")
        async with replica.watch("%20") as refused:
            assert (await refused.next())["data"]["code"] == "bad_request"


async def test_every_row_of_the_table_is_exposed_under_load(redis_server: Server) -> None:
    async with redis_server.client() as client, Replica(redis_server.url, topic=PATIENT) as replica:
        await busy(replica, Backend(client))
        now = await scrape(replica)

    for row in TABLE:
        family = now.families[row.name.removesuffix("_total")]
        assert family.type == row.kind.value
        assert family.documentation == row.help
        assert family.samples, row.name
        for sample in family.samples:
            assert set(sample.labels) <= {*row.labels, "le"}
            if row.values:
                assert sample.labels[row.labels[0]] in row.values
        if row.kind is Kind.HISTOGRAM:
            bounds = {s.labels["le"] for s in family.samples if s.name == f"{row.name}_bucket"}
            assert {float(b) for b in bounds} == {*row.bounds, float("inf")}
    assert not [secret for secret in SECRETS if secret in now.text]


async def test_the_figures_follow_what_happened(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "LAG_EVERY_S", 0.0)  # all is over within 10 ms
    async with redis_server.client() as client, Replica(redis_server.url, topic=PATIENT) as replica:
        await busy(replica, Backend(client))
        await until(lambda: len(replica.runtime._limiter) == 0)
        await until(lambda: replica.runtime._report._loop_lag.histogram.count > 0)
        await until(lambda: replica.runtime._node.pods.is_held, "the lease is taken")
        now = await scrape(replica)

    for kind, opened in (("ws", 2), ("multiplex", 1), ("sse", 1), ("long_poll", 1)):
        assert now("tidegate_connections", kind=kind) == 0
        assert now("tidegate_connections_opened_total", kind=kind) == opened
    assert now("tidegate_refusals_total", code="bad_request") == 2
    assert now("tidegate_refusals_total", code="not_a_stream") == 0
    assert now("tidegate_closes_total", code="bad_request") == 1
    assert now("tidegate_entries_total") == now("tidegate_dispatched_entries_total") == 22
    assert now("tidegate_deliveries_total") >= 3 * 22
    counted = now("tidegate_publish_to_socket_seconds_count")
    assert counted == 3 * 21
    assert now("tidegate_publish_to_socket_seconds_sum") / counted < 5
    assert now("tidegate_latency_unmeasured_total", reason="not_a_time") == 3
    assert now("tidegate_latency_unmeasured_total", reason="no_clock") == 0
    assert sum(sample.value for sample in now.families["tidegate_gap_frames"].samples) == 3
    assert now("tidegate_malformed_entries_total") == 1
    assert now("tidegate_dispatch_calls_total", outcome="entries") >= 3
    assert now("tidegate_relay_messages_total", origin="own") >= 3
    assert now("tidegate_dispatch_lag_seconds_count") >= 2
    assert now("tidegate_doorbell_rings_total") >= 3
    assert now("tidegate_doorbell_missed_total") == 0
    assert now("tidegate_replay_entries_count", occasion="join") == 3
    assert now("tidegate_replay_entries_sum", occasion="join") == 15
    assert now("tidegate_lease_renewals_total", outcome="renewed") >= 1
    assert now("tidegate_ready") == 1
    assert now("tidegate_draining") == 0
    node = redis_server.address
    assert now("tidegate_redis_connected", node=node) == 1
    assert now("tidegate_redis_round_trip_seconds_count", node=node) >= 1
    assert abs(now("tidegate_redis_clock_offset_seconds", node=node)) < 1
    assert 0 < now("tidegate_redis_clock_error_seconds", node=node) < 1
    assert now("tidegate_loop_lag_seconds_count") >= 1


@pytest.mark.real("promtool")
async def test_prometheus_finds_nothing_to_complain_about(redis_server: Server) -> None:
    async with redis_server.client() as client, Replica(redis_server.url, topic=PATIENT) as replica:
        await busy(replica, Backend(client))
        text = (await replica.admin("/metrics")).text
    # Those of Python's own collectors are not ours to name.
    ours = "".join(line for line in text.splitlines(keepends=True) if "tidegate_" in line)

    lint = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=ours,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


# --- latency, and the clocks


def with_a_clock_ahead(seconds: int) -> Any:
    """A filter on the server's way: its `TIME` is that much ahead."""
    reply = re.compile(rb"\*2\r\n\$10\r\n(\d{10})\r\n(?=\$\d\r\n\d{1,6}\r\n)")

    def ahead(match: re.Match[bytes]) -> bytes:
        return b"*2\r\n$10\r\n%d\r\n" % (int(match[1]) + seconds)

    return lambda: lambda data: reply.sub(ahead, data)


def clock_error_s(primary: Primary) -> float:
    return primary.clock.error_s(time.monotonic())


@pytest.mark.parametrize("ahead_s", [0, 3600, -120])
async def test_latency_is_right_when_the_clock_of_redis_is_another_one(
    redis_server: Server, ahead_s: int
) -> None:
    """Ids and `TIME` of a server whose clock is elsewhere, and a write that comes 250 ms late."""
    async with redis_server.client() as client, Proxy(("127.0.0.1", redis_server.port)) as proxy:
        proxy.down.filter = with_a_clock_ahead(ahead_s)
        backend = Backend(client)
        async with Replica(f"redis://127.0.0.1:{proxy.port}/0") as replica:
            async with replica.watch("42") as viewer:
                await viewer.state()
                (primary,) = replica.feed._primaries.values()
                # The first answer may have come late, and be all that is known for a second.
                await until(lambda: clock_error_s(primary) < 0.05, "the clock is known well")
                error_s = clock_error_s(primary)
                seconds, micros = await client.time()
                now_ms = int(seconds) * 1000 + int(micros) // 1000 + 1000 * ahead_s
                await backend.publish("42", entry_id=f"{now_ms - 250}-0")
                await viewer.entries(1)
            seen = await scrape(replica)
        offset_s = seen("tidegate_redis_clock_offset_seconds", node=f"127.0.0.1:{proxy.port}")
        assert offset_s == pytest.approx(ahead_s, abs=0.5)
        assert seen("tidegate_publish_to_socket_seconds_count") == 1
        # By the wrong clock it would be 120 s at the least.
        for name in ("publish_to_socket", "dispatch_lag"):
            assert 0.25 - error_s <= seen(f"tidegate_{name}_seconds_sum") < 60, name


async def test_without_leave_to_ask_the_time_nothing_is_measured(redis_server: Server) -> None:
    async with redis_server.client() as client:
        await client.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all")
        await client.execute_command("ACL", "SETUSER", "plain", "-time")
        url = f"redis://plain:pw@{redis_server.address}/0"
        async with Replica(url) as replica, replica.watch("42") as viewer:
            await viewer.state()
            await Backend(client).publish("42")
            await viewer.entries(1)
            seen = await scrape(replica)
    assert seen("tidegate_publish_to_socket_seconds_count") == 0
    assert seen("tidegate_latency_unmeasured_total", reason="no_clock") == 1
    node = redis_server.address
    assert seen("tidegate_redis_round_trip_seconds_count", node=node) >= 1, "an error is an answer"
    assert not seen.families["tidegate_redis_clock_offset_seconds"].samples


async def test_a_traced_entry_is_the_exemplar_of_its_bucket(
    redis_server: Server, collector: Collector
) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    tracing = {"exporter": "otlp", "endpoint": collector.endpoint}
    async with (
        redis_server.client() as client,
        Replica(redis_server.url, tracing=tracing) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        parent = f"00-{trace_id}-00f067aa0ba902b7-01"
        fields = {"message": '{"data":1}', "traceparent": parent}
        # Of an age that stays above 0 however little is known of the server's clock.
        a_second_ago = f"{await Backend(client)._now_ms() - 1_000}-0"
        await Backend(client).add("42", fields, entry_id=a_second_ago)
        await viewer.entries(1)
        await Backend(client).publish("42")
        await viewer.entries(1)
        answer = await admin(replica, "/metrics", OPENMETRICS)
        plain = await admin(replica, "/metrics", {"accept": "application/openmetrics-text;version"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1")
    (family,) = [
        family
        for family in read_openmetrics(answer.text)
        if family.name == "tidegate_publish_to_socket_seconds"
    ]
    exemplars = [sample.exemplar for sample in family.samples if sample.exemplar is not None]
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": trace_id}]
    assert 0 <= exemplars[0].value < 60
    assert plain.status_code == 200


async def test_others_get_the_text_format(redis_server: Server) -> None:
    others = ("", "*/*", "text/plain;version=0.0.4", "text/plain;version=zzz", "a" * 5000)
    async with Replica(redis_server.url) as replica:
        for accept in others:
            answer = await admin(replica, "/metrics", {"accept": accept})
            assert answer.status_code == 200, accept[:80]
            assert answer.headers["content-type"].startswith("text/plain"), accept[:80]
            assert "# EOF" not in answer.text, accept[:80]


async def test_with_metrics_off_nothing_is_timed_and_viewers_notice_nothing(
    redis_server: Server,
) -> None:
    off = {"enabled": False, "acks_per_s": 1000}
    heard = len(gc.callbacks)
    async with redis_server.client() as client, Replica(redis_server.url, metrics=off) as replica:
        assert len(gc.callbacks) == heard
        async with connect(f"{replica.url('42')}?acks=1") as socket:
            await socket.recv()
            for number in range(3):
                entry_id = await Backend(client).publish("42", n=number)
                assert json.loads(await socket.recv())["id"] == entry_id
        answer = await replica.admin("/metrics")
        numbers = (await replica.admin("/debug/state")).json()["numbers"]
        port = replica.settings.server.admin_port
        looker = ReplicaPoller([f"http://127.0.0.1:{port}"], None, 5, OperationOrder.VIEWERS)
        async with looker:
            (sample,) = await looker.look()
    assert answer.status_code == 404
    assert answer.json() == {"detail": "metrics.enabled is false"}
    assert "metrics.enabled is false" in sample.reason
    assert numbers["tidegate_deliveries_total"] == numbers["tidegate_entries_total"] == 3
    assert numbers["tidegate_publish_to_socket_seconds"]["count"] == 0
    assert numbers["tidegate_dispatch_lag_seconds"]["count"] == 0
    assert numbers["tidegate_acks_total"] == {}
    assert set(numbers["tidegate_latency_unmeasured_total"].values()) == {0}


# --- what goes wrong


async def test_a_doorbell_that_did_not_ring_is_found_by_the_sweep(redis_server: Server) -> None:
    fault = PushFault(b"invalidate", lambda _: 0)
    async with redis_server.client() as client, Proxy(("127.0.0.1", redis_server.port)) as proxy:
        proxy.down.filter = fault.on_connection
        url = f"redis://127.0.0.1:{proxy.port}/0"
        # The probe of the doorbell would lose its own ring, and the next best be taken.
        dispatch = {"sweep_s": 1.5}
        redis = {"doorbell": "tracking", "poll_interval_s": 0.1}
        async with Replica(url, redis=redis, dispatch=dispatch) as replica:
            async with replica.watch("42") as viewer:
                await viewer.state()
                await Backend(client).publish("42")
                await viewer.entries(1)
            seen = await scrape(replica)
    assert fault.lost >= 1
    assert seen("tidegate_doorbell_missed_total") == 1
    assert seen("tidegate_doorbell_rings_total") == 0


async def test_a_lost_relay_message_is_repaired_and_told(redis_server: Server) -> None:
    fault = PushFault(b"smessage", lambda number: 0 if number == 1 else 1)
    async with redis_server.client() as client, Proxy(("127.0.0.1", redis_server.port)) as proxy:
        proxy.down.filter = fault.on_connection
        backend = Backend(client)
        async with Replica(f"redis://127.0.0.1:{proxy.port}/0") as replica:
            async with replica.watch("42") as viewer:
                await viewer.state()
                for number in range(3):
                    entry_id = await backend.publish("42", n=number)
                    if number != 1:
                        await viewer.until_id(entry_id)
                    else:
                        await until(lambda: fault.lost == 1)
            seen = await scrape(replica)
    assert seen("tidegate_repairs_total", cause="relay_gap") == 1
    assert seen("tidegate_repaired_entries_total") == 2
    assert seen("tidegate_publish_to_socket_seconds_count") == 3, "late ones are measured as well"


async def test_a_loop_that_is_held_up_is_late(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        before = await scrape(replica)
        lag = replica.runtime._report._loop_lag.histogram
        time.sleep(0.3)  # noqa: ASYNC251 - what nobody should do
        await until(lambda: sum(lag.counts[lag.bounds.index(0.1) + 1 :]) >= 1)
        after = await scrape(replica)
        # They are of the time since a renewal, which may have been just now.
        await until(lambda: replica.runtime._report.figures().loop_lag_ms > 0)
    late = "tidegate_loop_lag_seconds_sum"
    assert after(late) - before(late) >= 0.2


async def test_the_garbage_collector_is_timed(redis_server: Server) -> None:
    count = "tidegate_gc_pause_seconds_count"
    async with Replica(redis_server.url) as replica:
        before = await scrape(replica)
        gc.collect()
        after = await scrape(replica)
        assert after(count, generation="2") - before(count, generation="2") >= 1
        assert after("tidegate_gc_pause_seconds_sum", generation="2") > 0
        heard = len(gc.callbacks)
    assert len(gc.callbacks) == heard - 1, "it listens no more"


async def test_a_drain_shows_how_far_it_is(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One viewer at once; the other, and with it the end, when the second `stop` hurries.
    monkeypatch.setattr(drainer, "TICK_S", 60)
    drain = {"delay_s": 0, "window_s": 60}
    replica = Replica(redis_server.url, drain=drain)
    await replica.start()
    async with replica.watch("1") as one, replica.watch("2") as two:
        await one.state()
        await two.state()
        replica.runtime.stop()
        await asyncio.wait(
            [asyncio.ensure_future(v.closed()) for v in (one, two)],
            return_when=asyncio.FIRST_EXCEPTION,
        )
        now = await scrape(replica)
        await replica.stop()
    assert now("tidegate_draining") == 1
    assert now("tidegate_ready") == 0
    assert now("tidegate_drain_window_seconds") == 60
    assert now("tidegate_drain_elapsed_seconds") > 0
    assert now("tidegate_moved_connections_total", reason="drain") >= 1


async def test_too_many_connects_are_refused_by_code(redis_server: Server) -> None:
    limits = {"max_connections": 1}
    async with Replica(redis_server.url, replica=limits) as replica, replica.watch("1") as one:
        await one.state()
        for _ in range(2):
            with pytest.raises(InvalidStatus):
                await connect(replica.url("1"))
        now = await scrape(replica)
    assert now("tidegate_refusals_total", code="connections") == 2
    assert now("tidegate_connections_limit") == 1
    assert now("tidegate_connections", kind="ws") == 1


# --- what the operator is told


async def test_the_operator_is_told_rates_and_not_zeros(redis_server: Server) -> None:
    slots = {"lease_s": 60, "renew_s": 0.2, "wait_s": 20}
    async with redis_server.client() as client, Replica(redis_server.url, slots=slots) as replica:
        backend = Backend(client)

        async def told() -> dict[str, str]:
            """Nothing while the lease, or the first figures behind it, are on their way."""
            roster = await replica.runtime._node.pods.roster()
            assert len(roster) <= 1
            return roster[0].figures if roster else {}

        async with replica.watch("42") as viewer:
            await viewer.state()
            seen: list[dict[str, str]] = []

            async def a_rate() -> bool:
                await viewer.until_id(await backend.publish("42"))
                seen.append(await told())
                return float(seen[-1].get("deliveries_per_s", 0)) > 0

            async def all_dispatched() -> bool:
                seen.append(await told())
                return seen[-1]["undispatched"] == "0"

            await until(a_rate)
            await until(all_dispatched, "it was told while one was on its way")
    assert seen[-1].keys() == {
        *("pod", "started", "connections", "deliveries_per_s", "loop_lag_ms", "undispatched"),
        "ready",
    }
    assert seen[-1]["connections"] == "1"


async def test_entries_that_wait_for_dispatch_are_counted(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that takes one of ten leaves nine; then nobody calls any more."""
    async with (
        redis_server.client() as client,
        Replica(redis_server.url, dispatch={"max_entries": 1, "sweep_s": 3600}) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        (primary,) = replica.feed._primaries.values()
        (watch,) = primary.watches
        dispatcher = primary.dispatcher
        dispatch = dispatcher.dispatch
        monkeypatch.setattr(dispatcher, "dispatch", lambda _: None)
        await Backend(client).publish_many("42", 10)
        dispatch(watch)
        await viewer.entries(1)
        await until(lambda: not watch.arming.in_flight)
        assert (await scrape(replica))("tidegate_undispatched_entries") == 9
        assert replica.runtime._report.figures().undispatched == 9
        monkeypatch.undo()
        dispatch(watch)
        await viewer.entries(9)
        await until(lambda: replica.runtime._report.undispatched() == 0)
        assert (await scrape(replica))("tidegate_doorbell_missed_total") == 0


# --- the table itself


def collected(numbers: Numbers, name: str) -> Metric:
    return next(m for m in new_registry(lambda: numbers).collect() if f"{m.name}" == name)


def test_a_value_that_no_row_lists_is_other() -> None:
    family = collected(
        {"tidegate_closes_total": {"finished": 2, "4999": 3, "x": 4}}, "tidegate_closes"
    )
    by_code = {s.labels["code"]: s.value for s in family.samples}
    assert (by_code["finished"], by_code[OTHER], by_code["slow"]) == (2, 7, 0)
    assert "x" not in by_code


def test_a_label_that_is_not_listed_is_bounded() -> None:
    nodes = {f"10.0.0.{n}:6379": 1 for n in range(200)}
    family = collected({"tidegate_redis_connected": nodes}, "tidegate_redis_connected")
    assert len(family.samples) == VALUES_MAX + 1
    assert sum(s.value for s in family.samples) == 200


def test_histograms_of_too_many_nodes_are_left_out() -> None:
    times = {f"10.0.0.{n}:6379": Histogram((1.0,)) for n in range(200)}
    name = "tidegate_redis_round_trip_seconds"
    family = collected({name: times}, name)
    assert len({s.labels["node"] for s in family.samples}) == VALUES_MAX


def test_a_metric_may_have_several_labels_and_as_many_values_as_there_are() -> None:
    row = Row("calls_total", Kind.COUNTER, "Calls.", ("verb", "answer"))
    given: dict[tuple[str, ...], float] = {("get", f"{code}"): 1.0 for code in range(200)}
    (family,) = TableCollector([row], lambda: {row.name: given}).collect()
    assert {tuple(s.labels.items()) for s in family.samples} == {
        (("verb", "get"), ("answer", f"{code}")) for code in range(200)
    }


def test_every_label_of_the_table_is_bounded_or_a_node() -> None:
    for row in TABLE:
        assert row.values or set(row.labels) <= {"node", "version"}, row.name


def test_the_table_knows_every_value_that_the_code_counts() -> None:
    def row(name: str) -> Row:
        return next(row for row in TABLE if row.name == name)

    assert set(row("tidegate_redis_doorbell").values) == {each.value for each in Doorbell}
    assert row("tidegate_redis_refused_commands").values == rights.AREAS
    troubles = {f"error_{trouble.name.lower()}" for trouble in Trouble}
    assert troubles <= set(REDIS_EVENTS)
    code = "\n".join(p.read_text() for p in (REPOSITORY / "service/tidegate/web").rglob("*.py"))
    raised = set(re.findall(r'(?:Unauthenticated|Forbidden)\(\s*"([a-z_]+)"', code))
    assert len(raised) > 10
    assert raised <= set(row("tidegate_refusals_total").values)
    slots = (REPOSITORY / "service/tidegate/redis/slots.py").read_text()
    counted = set(re.findall(r'counts\["([a-z_]+)"\]', slots))
    assert counted == set(row("tidegate_slot_events_total").values)


def test_the_reference_page_is_current() -> None:
    committed = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert committed == metrics_page(), (
        "run: python -m tidegate.telemetry.metrics_page > docs/metrics.md"
    )
