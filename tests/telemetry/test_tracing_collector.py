"""A collector that is dead, hangs, refuses or comes back costs viewers nothing, and no shutdown
waits for it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tests.telemetry.collector import Collector
from tidegate.model.errors import SettingsError
from tidegate.model.settings import TracingSettings
from tidegate.telemetry.span_queue import LAST_MOMENT_S, SpanQueue
from tidegate.telemetry.tracing import Tracing, _exporter

FLUSH_S = 0.3
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def traceparent(number: int) -> str:
    return f"00-{number + 1:032x}-{number + 1:016x}-01"


def tracing(endpoint: str, **more: Any) -> dict[str, Any]:
    # So patient that no batch is given up because a collector that lives was held up.
    quick = {"send_every_s": 0.02, "connection_ratio": 0.0, "timeout_s": 6, "flush_s": FLUSH_S}
    return {"exporter": "otlp", "endpoint": endpoint, **quick, **more}


async def publish(backend: Backend, viewer: Viewer, numbers: range) -> list[str]:
    """Traced entries, each in a trace of its own; the viewer has them when this returns."""
    async with backend.client.pipeline(transaction=False) as pipe:
        for number in numbers:
            _ = pipe.xadd(
                "operation-progress:42",
                {"message": '{"data":{}}', "traceparent": traceparent(number)},
            )
        ids = [entry_id.decode() for entry_id in await pipe.execute()]
    assert await viewer.ids(len(ids)) == ids
    return ids


def counts(replica: Replica) -> Any:
    tracing = replica.runtime._tracing
    assert tracing is not None
    return tracing.counts()


async def test_killed_in_the_middle_and_back_again(redis_server: Server, backend: Backend) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/v1/traces"
    settings = tracing(endpoint, queue_spans=64, batch_spans=32)
    async with (
        Replica(redis_server.url, pod="a", tracing=settings) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        with Collector(port) as collector:
            await publish(backend, viewer, range(10))
            await asyncio.to_thread(collector.wait, "deliver", 10)
        assert counts(replica).dropped == 0
        for start in range(10, 210, 20):
            await publish(backend, viewer, range(start, start + 20))
        await until(lambda: counts(replica).dropped >= 500, "they are dropped, and counted")
        assert counts(replica).waiting <= 64
        with Collector(port) as collector:
            for start in range(1_000, 100_000, 10):  # those that wait may be given up first
                await publish(backend, viewer, range(start, start + 10))
                if collector.named("deliver"):
                    break
        assert viewer.frames[-1]["id"]
    metric = (await _last_metric(replica)).dropped
    assert metric >= 500


async def _last_metric(replica: Replica) -> Any:
    """After the end: nothing waits any more, everything was sent or is counted."""
    final = counts(replica)
    assert final.waiting == 0
    return final


@pytest.mark.parametrize("how", ["hangs", "nobody", "refuses", "unavailable"])
async def test_neither_viewers_nor_the_end_wait_for_it(
    redis_server: Server, backend: Backend, how: str
) -> None:
    with Collector(status={"refuses": 400, "unavailable": 503}.get(how, 200)) as collector:
        endpoint = collector.endpoint
        if how == "hangs":
            collector.hold.clear()
        elif how == "nobody":
            collector.kill()
        patient = tracing(endpoint, timeout_s=60)
        replica = Replica(redis_server.url, pod="a", tracing=patient)
        await replica.start()
        try:
            async with replica.watch("42") as viewer:
                await viewer.state()
                slowest = 0.0
                for start in range(0, 400, 20):
                    began = time.perf_counter()
                    await publish(backend, viewer, range(start, start + 20))
                    slowest = max(slowest, time.perf_counter() - began)
                assert slowest < 10  # 10 to 50 ms, if others let us; the exporter tries for 60 s
        finally:
            began = time.perf_counter()
            await replica.stop()
            took = time.perf_counter() - began
        assert took < FLUSH_S + LAST_MOMENT_S + 10
        final = counts(replica)
        assert (final.sent, final.waiting) == (0, 0)
        assert final.dropped == 400 * 3
        assert collector.spans == []


async def test_what_waits_at_the_end_is_sent(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    settings = tracing(collector.endpoint, send_every_s=60, flush_s=10)
    async with (
        Replica(redis_server.url, pod="a", tracing=settings) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        await publish(backend, viewer, range(5))
        assert collector.spans == []
    assert len(collector.spans) == 15
    assert counts(replica) == (15, 0, 0)


def made(queue: SpanQueue) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(queue)
    return provider.get_tracer("test")


def queue_to(collector: Collector, **bounds: Any) -> SpanQueue:
    settings = TracingSettings.model_validate(tracing(collector.endpoint, timeout_s=10))
    return SpanQueue(
        _exporter(settings), **{"most": 100, "batch": 10, "send_every_s": 60.0, **bounds}
    )


def test_a_full_queue_drops_and_counts(collector: Collector) -> None:
    collector.hold.clear()
    queue = queue_to(collector)
    tracer = made(queue)
    for _ in range(500):
        tracer.start_span("s").end()
    now = queue.counts()
    assert now.sent == 0
    assert now.waiting <= 100
    assert 500 - now.waiting - now.dropped in (0, 10)  # or one batch is on its way
    collector.hold.set()
    queue.close(10)
    final = queue.counts()
    assert final.waiting == 0
    assert final.sent == len(collector.spans) >= 100
    assert final.sent + final.dropped == 500


def test_a_full_batch_does_not_wait_for_its_time(collector: Collector) -> None:
    queue = queue_to(collector)
    tracer = made(queue)
    for _ in range(10):
        tracer.start_span("s").end()
    collector.wait("s", 10)
    queue.close(1)


def test_closed_twice_and_used_afterwards(collector: Collector) -> None:
    queue = queue_to(collector)
    tracer = made(queue)
    tracer.start_span("s").end()
    queue.close(10)
    queue.close(10)
    queue.shutdown()
    tracer.start_span("late").end()
    assert queue.counts() == (1, 1, 0)
    assert [span.name for span in collector.spans] == ["s"]


def test_the_collector_gets_the_headers_of_the_settings(collector: Collector) -> None:
    given = {"headers": "x-tenant=blue, Authorization=Basic dXNlcjpwdw=="}
    settings = TracingSettings.model_validate(tracing(collector.endpoint, **given))
    assert "dXNl" not in repr(settings)
    queue = SpanQueue(_exporter(settings), most=10, batch=1, send_every_s=60.0)
    made(queue).start_span("s").end()
    collector.wait("s")
    queue.close(1)
    assert collector.headers[0]["x-tenant"] == "blue"
    assert collector.headers[0]["authorization"] == "Basic dXNlcjpwdw=="


@pytest.mark.parametrize(
    "headers", ["x", "=x", "a b=c", "a=b,c", "a=b\r\nevil: 1", "a=", "ä=b", "a=" + "b," * 40]
)
def test_headers_that_cannot_be_sent_are_refused(headers: str) -> None:
    with pytest.raises(ValueError, match="name=value") as refused:
        TracingSettings.model_validate({"headers": headers})
    assert "evil" not in str(refused.value)


def test_without_the_exporter_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    with pytest.raises(SettingsError, match=r"tidegate\[otlp\]"):
        Tracing(TracingSettings(exporter="otlp"), "a")


def test_without_the_exporter_the_command_says_what_to_do() -> None:
    program = (
        f"import sys; sys.modules[{EXPORTER!r}] = None\n"
        "from tidegate.cli.main import app\n"
        "app(['serve', '--auth', 'none', '--set', 'tracing.exporter=otlp'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "tracing.exporter" in done.stderr
    assert "pip install 'tidegate[otlp]'" in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_traces_nothing_of_them_is_loaded(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        assert replica.hub.services.tracer is None
    # redis-py loads the SDK's metrics by itself where they are installed.
    ours = "{'tidegate.telemetry.tracing', 'opentelemetry.sdk.trace', 'opentelemetry.exporter'}"
    program = f"import sys, tidegate.runtime; sys.exit(bool({ours} & set(sys.modules)))"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=False)
    assert done.returncode == 0
