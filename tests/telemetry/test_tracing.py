"""Traces of entries, from their publisher to a viewer's socket, seen by a real collector.

What a test waits for is the last span that it needs: spans arrive in batches, in the order in which
they ended.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.proxy import Proxy
from tests.servers.relay_loss import PushFault
from tests.servers.standalone import Server
from tests.telemetry.collector import Collector, Seen
from tidegate import AsyncPublisher, Publisher
from tidegate.model.traceparent import TraceParent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def tracing(collector: Collector, **more: Any) -> dict[str, Any]:
    """Settings of replicas that trace entries, and no connections."""
    quick = {"send_every_s": 0.02, "connection_ratio": 0.0}
    return {"exporter": "otlp", "endpoint": collector.endpoint, **quick, **more}


async def come(collector: Collector, name: str, count: int = 1, pod: str = "") -> list[Seen]:
    return await asyncio.to_thread(collector.wait, name, count, pod)


def message(number: int = 0, **more: Any) -> str:
    return json.dumps({"type": "step", "data": {"n": number}, **more})


@asynccontextmanager
async def pair(server: Server, collector: Collector) -> AsyncIterator[tuple[Viewer, Viewer]]:
    """A viewer on each of two replicas, `a` and `b`; `a` was there first."""
    async with (
        Replica(server.url, pod="a", tracing=tracing(collector)) as a,
        Replica(server.url, pod="b", tracing=tracing(collector)) as b,
        a.watch("42") as one,
        b.watch("42") as two,
    ):
        await one.state()
        await two.state()
        yield one, two


@pytest.mark.parametrize("how", ["field", "message", "fields"])
async def test_one_trace_from_the_publisher_to_both_viewers(
    redis_server: Server, backend: Backend, collector: Collector, how: str
) -> None:
    fields = {
        "field": {"message": message(), "traceparent": SAMPLED},
        "message": {"message": message(traceparent=SAMPLED)},
        "fields": {"type": "step", "n": "0", "traceparent": SAMPLED},
    }[how]
    async with pair(redis_server, collector) as viewers:
        entry_id = await backend.add("42", fields)
        for viewer in viewers:
            assert await viewer.ids(1) == [entry_id]
        delivered = await come(collector, "deliver", 2)

    (dispatch,) = collector.named("dispatch")
    assert (dispatch.trace, dispatch.parent) == (TRACE, SPAN)
    other = "b" if dispatch.pod == "a" else "a"
    (here,), (there,) = (collector.named("relay", pod) for pod in (dispatch.pod, other))
    assert (here.trace, here.parent, here.links) == (TRACE, dispatch.id, frozenset())
    # The other replica was told nothing but the entry, and still names the span that brought it.
    link = frozenset({(TRACE, dispatch.id)})
    assert (there.trace, there.parent, there.links) == (TRACE, SPAN, link)
    assert {(d.pod, d.parent) for d in delivered} == {
        (dispatch.pod, here.id),
        (other, there.id),
    }
    for span in (dispatch, here, there, *delivered):
        assert span.attributes["messaging.message.id"] == entry_id
        assert span.attributes["tidegate.operation.id"] == "42"
        assert 0 < span.end_ns - span.start_ns < 5e9
    assert dispatch.start_ns < dispatch.end_ns <= here.start_ns


async def test_entries_of_several_publishers_stay_in_their_traces_and_link(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    """Dispatched together: one span for each publisher's context."""
    parents = [TraceParent(n, n, sampled=True) for n in (1, 2, 3)]
    async with (
        Replica(redis_server.url, pod="a", tracing=tracing(collector)) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        async with backend.client.pipeline(transaction=True) as pipe:
            for number, parent in enumerate([*parents, parents[0]]):
                _ = pipe.xadd(
                    "operation-progress:42",
                    {"message": message(number), "traceparent": str(parent)},
                )
            _ = pipe.xadd("operation-progress:42", {"message": message(4)})
            await pipe.execute()
        await viewer.entries(5)
        await come(collector, "deliver", 3)

    dispatches = {span.trace: span for span in collector.named("dispatch")}
    assert dispatches.keys() == {f"{n:032x}" for n in (1, 2, 3)}
    for span in dispatches.values():
        assert span.links == {(o, o[16:]) for o in dispatches if o != span.trace}
    count = "messaging.batch.message_count"
    assert [dispatches[f"{n:032x}"].attributes[count] for n in (1, 2, 3)] == [2, 1, 1]
    for name in ("relay", "deliver"):
        assert sorted(s.trace for s in collector.named(name)) == sorted(dispatches)


async def test_others_are_delivered_and_leave_no_trace(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    others = (
        "",
        f"00-{TRACE}-{SPAN}-00",  # its publisher does not record it
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        SAMPLED.upper(),
        SAMPLED[:-1],
        "x" * 10_240,
        f"cc-{TRACE}-{SPAN}-01-" + "y" * 10_240,
        SAMPLED + "\r\nx: y",
    )
    told: dict[str, str] = {}
    async with pair(redis_server, collector) as viewers:
        for other in others:
            first = await backend.add("42", {"message": message(), "traceparent": other})
            second = await backend.add("42", {"message": message(traceparent=other)})
            told |= {first: other[:80], second: other[:80]}
            for viewer in viewers:
                assert await viewer.ids(2) == [first, second]
        last = await backend.add("42", {"message": message(), "traceparent": SAMPLED})
        for viewer in viewers:
            assert await viewer.ids(1) == [last]
        await come(collector, "deliver", 2)
    traced = {span.attributes["messaging.message.id"] for span in collector.spans}
    assert traced == {last}, [told.get(entry_id) for entry_id in traced]


async def test_a_field_named_twice_leaves_no_trace(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    async with pair(redis_server, collector) as viewers:
        twice = ("message", message(), "traceparent", SAMPLED, "traceparent", SAMPLED)
        first = await backend.client.execute_command("XADD", "operation-progress:42", "*", *twice)
        last = await backend.add("42", {"message": message(), "traceparent": SAMPLED})
        for viewer in viewers:
            assert await viewer.ids(2) == [first.decode(), last]
        await come(collector, "deliver", 2)
    assert {span.attributes["messaging.message.id"] for span in collector.spans} == {last}


async def test_an_entry_that_was_read_again_has_its_delivery_traced(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    """The relay message is lost on the way to this replica; a page of the stream repairs it."""
    async with Proxy((redis_server.host, redis_server.port)) as proxy:
        fault = PushFault(b"smessage", lambda number: 0 if number == 1 else 1)
        proxy.down.filter = fault.on_connection
        async with (
            Replica(f"redis://{proxy.address}/0", pod="a", tracing=tracing(collector)) as replica,
            replica.watch("42") as viewer,
        ):
            await viewer.state()
            await backend.add("42", {"message": message(0)})
            await viewer.entries(1)
            entry_id = await backend.add("42", {"message": message(1), "traceparent": SAMPLED})
            await until(lambda: fault.lost == 1, "the relay message is lost")
            await backend.add("42", {"message": message(2)})
            await viewer.entries(2)
            (delivered,) = await come(collector, "deliver")
    assert (delivered.trace, delivered.parent) == (TRACE, SPAN)
    assert delivered.attributes["messaging.message.id"] == entry_id
    assert delivered.attributes["tidegate.repaired"] is True


async def test_an_entry_that_nobody_waits_for_is_not_delivered(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    """The viewer has gone, the operation lingers: dispatched and relayed, and that is all."""
    topic = {"linger_s": 60}
    async with Replica(
        redis_server.url, pod="a", topic=topic, tracing=tracing(collector)
    ) as replica:
        async with replica.watch("42") as viewer:
            await viewer.state()
        await until(lambda: replica.viewers == 0)
        await backend.add("42", {"message": message(), "traceparent": SAMPLED})
        await come(collector, "relay")
    assert [span.name for span in collector.spans] == ["dispatch", "relay"]


def in_span() -> Any:
    context = SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=False, trace_flags=TraceFlags(1))
    return use_span(NonRecordingSpan(context))


@pytest.mark.parametrize("publisher", ["sync", "async"])
async def test_the_python_publishers_name_the_span_they_are_called_in(
    redis_server: Server, backend: Backend, collector: Collector, publisher: str
) -> None:
    def publish() -> None:
        with Publisher(redis_server.url) as to, in_span():
            to.publish("42", "step", {"n": 1})

    async with pair(redis_server, collector) as viewers:
        await backend.publish("42")  # from now on the stream has its group
        for viewer in viewers:
            await viewer.entries(1)
        if publisher == "sync":
            await asyncio.to_thread(publish)
        else:
            async with AsyncPublisher(redis_server.url) as to:
                with in_span():
                    await to.publish("42", "step", {"n": 1})
        for viewer in viewers:
            (entry,) = await viewer.entries(1)
            assert entry["data"] == {"n": 1}
            assert "traceparent" not in entry
        await come(collector, "deliver", 2)
    # They dispatch in the same step, so that no replica has a dispatch span to link to.
    assert collector.named("dispatch") == []
    relays = collector.named("relay")
    assert {(s.trace, s.parent, s.links) for s in relays} == {(TRACE, SPAN, frozenset())}
    assert {s.pod for s in relays} == {"a", "b"}


async def test_a_span_that_is_not_sampled_is_named_as_such(
    redis_server: Server, backend: Backend
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    async with AsyncPublisher(redis_server.url) as to:
        await to.publish("42", "outside")
        with provider.get_tracer("test").start_as_current_span("inside") as span:
            await to.publish("42", "inside")
        unsampled = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0))
        with use_span(NonRecordingSpan(unsampled)):
            await to.publish("42", "unsampled")
    entries: Any = await backend.client.xrange("operation-progress:42")
    bodies = [json.loads(fields[b"message"]) for _, fields in entries]
    context = span.get_span_context()
    assert [body.get("traceparent") for body in bodies] == [
        None,
        f"00-{context.trace_id:032x}-{context.span_id:016x}-01",
        f"00-{'0' * 31}1-{'0' * 15}2-00",
    ]


async def test_spans_hold_nothing_of_what_an_entry_says(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    async with pair(redis_server, collector) as viewers:
        await backend.add(
            "42",
            {"message": message(secret="pay-load", traceparent=SAMPLED), "user": "ann-the-user"},
        )
        for viewer in viewers:
            await viewer.entries(1)
        await come(collector, "deliver", 2)
    for sent in collector.raw:
        assert b"pay-load" not in sent
        assert b"ann-the-user" not in sent
        assert b"step" not in sent


async def test_an_exemplar_names_the_trace(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    async with (
        Replica(redis_server.url, pod="a", tracing=tracing(collector)) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        clock = replica.feed._primaries[next(iter(replica.feed._primaries))].clock
        await until(lambda: clock.offset_s is not None, "the clock of the server is known")
        # Of an age that stays above 0 however little is known of that clock.
        a_second_ago = f"{await backend._now_ms() - 1_000}-0"
        fields = {"message": message(), "traceparent": SAMPLED}
        await backend.add("42", fields, entry_id=a_second_ago)
        await viewer.entries(1)
        await come(collector, "deliver")
        latency = replica.hub.counters.latency.histogram
        assert TRACE in {kept.trace_id for kept in latency.exemplars.values()}
