"""The admin port of a pod with workers: what is merged, what is passed on, and what it says when
workers do not answer.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from tests.harness.plain_http import plain_client
from tidegate.core.histogram import Histogram
from tidegate.model.operation_order import OperationOrder
from tidegate.telemetry.metric_table import TableCollector
from tidegate.telemetry.metrics import TABLE
from tidegate.web.admin.merging import (
    merged_operation,
    merged_operations,
    merged_readiness,
    merged_tasks,
    numbers_of,
)
from tidegate.web.admin.workers import AdminRequest, WorkerAnswer, workers_app

READY = {"ready": True, "reason": "serving"}
AWAY = {"ready": False, "reason": "redis is not connected"}


class FakeWorkers:
    """Each answers by path, or not at all."""

    def __init__(self, *answers: dict[str, Any] | None, complete: bool = True) -> None:
        self.answers = dict(enumerate(answers, 1))
        self.count = 2
        self.has_been_complete = complete
        self.uptime_s = 12.5
        self.asked: list[AdminRequest] = []

    async def ask_each(self, request: AdminRequest) -> dict[int, WorkerAnswer | None]:
        self.asked.append(request)
        return {number: self._answer(one, request) for number, one in self.answers.items()}

    async def ask_one(self, request: AdminRequest) -> WorkerAnswer | None:
        self.asked.append(request)
        return self._answer(self.answers[1], request) if self.answers else None

    def _answer(self, paths: dict[str, Any] | None, request: AdminRequest) -> WorkerAnswer | None:
        if paths is None:
            return None
        status, body = paths.get(request.path, (404, {"detail": "Not Found"}))
        headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
        return WorkerAnswer(status, headers, json.dumps(body).encode())

    async def metrics(self) -> Collector:
        return TableCollector(TABLE, lambda: {"tidegate_workers": 2})


def asking(workers: FakeWorkers, *, metrics_enabled: bool = True) -> httpx.AsyncClient:
    app = workers_app(workers, "gate", metrics_enabled=metrics_enabled)
    return plain_client("http://gate", transport=httpx.ASGITransport(app))


async def test_health_is_that_of_all_and_a_missing_worker_is_no_reason_to_end_the_others() -> None:
    for workers in (FakeWorkers({}, {}), FakeWorkers({}), FakeWorkers()):
        async with asking(workers) as client:
            assert (await client.get("/healthz")).status_code == 200
    async with asking(FakeWorkers({}, None)) as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "no answer from worker 2"})


@pytest.mark.parametrize(
    ("bodies", "complete", "expected"),
    [
        ({1: READY, 2: READY}, False, READY),
        ({1: READY}, False, {"ready": False, "reason": "1 of 2 workers are ready"}),
        ({}, False, {"ready": False, "reason": "0 of 2 workers are ready"}),
        ({1: READY}, True, {"ready": True, "reason": "1 of 2 workers are ready"}),
        (
            {1: READY, 2: AWAY},
            True,
            {
                "ready": True,
                "reason": "1 of 2 workers are ready; worker 2: redis is not connected",
            },
        ),
        ({1: AWAY, 2: AWAY}, True, AWAY),
    ],
)
def test_readiness(bodies: Any, complete: bool, expected: dict[str, Any]) -> None:
    assert merged_readiness(bodies, 2, has_been_complete=complete) == expected


async def test_readiness_on_the_port() -> None:
    async with asking(FakeWorkers({"/readyz": (200, READY)}, None)) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        assert "worker 2: no answer" in answer.json()["reason"]
    async with asking(FakeWorkers({"/readyz": (503, AWAY)}, {"/readyz": (503, AWAY)})) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, AWAY)


async def test_metrics_in_both_formats_and_switched_off() -> None:
    async with asking(FakeWorkers({}, {})) as client:
        plain = await client.get("/metrics")
        modern = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert "tidegate_workers 2.0" in plain.text
    assert modern.text.endswith("# EOF\n")
    async with asking(FakeWorkers({}, {}), metrics_enabled=False) as client:
        off = await client.get("/metrics")
    assert (off.status_code, off.json()) == (404, {"detail": "metrics.enabled is false"})


async def test_what_workers_refuse_is_refused_in_their_words_and_nobody_is_503() -> None:
    refused = {"/debug/state": (401, {"detail": "send Authorization"})}
    async with asking(FakeWorkers(refused, refused)) as client:
        answer = await client.get("/debug/state", headers={"Authorization": "Bearer no"})
    assert (answer.status_code, answer.json()) == (401, {"detail": "send Authorization"})
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    for workers in (FakeWorkers(None), FakeWorkers()):
        async with asking(workers) as client:
            for path in ("/debug/tasks", "/debug/gateway"):
                assert (await client.get(path)).status_code == 503


@pytest.mark.parametrize("path", ["/debug/operations", "/debug/tasks"])
async def test_a_number_that_the_workers_took_for_one_is_one_here(path: str) -> None:
    """FastAPI takes 5.0 for 5, `int` does not."""
    empty = {"count": 0, "by_name": {}, "omitted": 0, "operations": [], "tasks": []}
    async with asking(FakeWorkers({path: (200, empty)})) as client:
        assert (await client.get(path, params={"limit": "5.0"})).status_code == 200


@pytest.mark.parametrize("wrong", [b"", b"[]", b'{"detail":"no', b"\xff"])
async def test_a_worker_whose_answer_cannot_be_read_has_given_none(
    monkeypatch: pytest.MonkeyPatch, wrong: bytes
) -> None:
    tasks = {"count": 0, "by_name": {}, "omitted": 0, "tasks": []}
    workers = FakeWorkers({}, {"/debug/tasks": (200, tasks), "/readyz": (200, READY)})
    answers = workers._answer
    monkeypatch.setattr(
        workers,
        "_answer",
        lambda paths, request: answers(paths, request) if paths else WorkerAnswer(200, [], wrong),
    )
    async with asking(workers) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        assert "worker 1: no answer" in answer.json()["reason"]
        answer = await client.get("/debug/tasks")
        assert (answer.status_code, answer.json()["count"]) == (200, 0)


async def test_everything_else_is_passed_on_as_it_came() -> None:
    path = "/admin/users/a%2Fb/disconnect"
    workers = FakeWorkers({"/admin/users/a/b/disconnect": (200, {"replicas": 2})}, {})
    async with asking(workers) as client:
        answer = await client.post(path, params={"reason": "x"}, headers={"Authorization": "B"})
    assert answer.json() == {"replicas": 2}
    [asked] = workers.asked
    assert (asked.method, asked.raw_path, asked.query) == ("POST", path.encode(), b"reason=x")
    assert (b"authorization", b"B") in asked.headers


def row(operation: str, cursor: str, live: int, entries: int = 0) -> dict[str, Any]:
    return {
        "operation": operation,
        "status": f"at {cursor}",
        "finished": False,
        "cursor": cursor,
        "entries": entries,
        "live": live,
        "lagging": 0,
        "catching_up": 0,
        "outbox_items": 1,
    }


def test_operations_are_added_up_and_the_furthest_tells_the_status() -> None:
    bodies = {
        1: {"count": 2, "omitted": 0, "operations": [row("a", "10-0", 3, 5), row("b", "1-0", 4)]},
        2: {"count": 1, "omitted": 0, "operations": [row("a", "9-9", 2, 7)]},
    }
    found = merged_operations(bodies, OperationOrder.VIEWERS, 1)
    assert (found["count"], found["omitted"]) == (2, 1)
    [first] = found["operations"]
    assert first == row("a", "10-0", 5, 7) | {"outbox_items": 2}


def test_one_operation_has_the_viewers_of_all() -> None:
    def body(cursor: str, live: int) -> dict[str, Any]:
        return {
            "operation": "a",
            "followed": True,
            "topic": {"cursor": cursor},
            "viewers": {"live": live, "waiting": 0},
            "outbox_items": 1,
        }

    unfollowed = {"operation": "a", "followed": False, "stream": None}
    found = merged_operation({1: body("9-0", 1), 2: body("10-0", 2), 3: unfollowed})
    assert (found["topic"], found["viewers"]) == ({"cursor": "10-0"}, {"live": 3, "waiting": 0})
    assert [one["worker"] for one in found["workers"]] == [1, 2, 3]
    assert merged_operation({1: unfollowed})["followed"] is False


def test_tasks_are_together_the_oldest_first() -> None:
    def body(*ages: float | None) -> dict[str, Any]:
        tasks = [{"name": "x", "age_s": age} for age in ages]
        return {"count": len(ages), "by_name": {"x": len(ages)}, "omitted": 0, "tasks": tasks}

    found = merged_tasks({1: body(3.0, None), 2: body(5.0)}, 2)
    assert (found["count"], found["by_name"], found["omitted"]) == (3, {"x": 3}, 1)
    assert [(one["worker"], one["age_s"]) for one in found["tasks"]] == [(2, 5.0), (1, 3.0)]


def test_numbers_for_people_are_those_of_one_replica() -> None:
    late = Histogram(next(one.bounds for one in TABLE if one.name.endswith("to_socket_seconds")))
    for value in (0.001, 0.002, 0.2):
        late.observe(value)
    numbers: dict[str, Any] = {
        "tidegate_publish_to_socket_seconds": late,
        "tidegate_redis_round_trip_seconds": {"a:1": late},
        "tidegate_viewers": {"live": 3},
        "tidegate_joins_total": 4,
    }
    registry = CollectorRegistry()
    registry.register(TableCollector(TABLE, lambda: numbers))
    found = numbers_of(registry.collect())
    assert found["tidegate_publish_to_socket_seconds"] == late.summary()
    assert found["tidegate_redis_round_trip_seconds"] == {"a:1": late.summary()}
    assert found["tidegate_viewers"] == {"live": 3, "lagging": 0, "catching_up": 0}
    assert found["tidegate_joins_total"] == 4
