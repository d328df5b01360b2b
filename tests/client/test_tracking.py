"""Loops with progress: pure, and once with each publisher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.harness.backend import Backend
from tests.integrations.stream import written
from tests.servers.standalone import Server
from tidegate import AsyncPublisher, Publisher
from tidegate.client.tracking import track, track_async
from tidegate.client.updates import count_data
from tidegate.model.errors import InvalidInput


def unsized() -> Iterator[str]:
    yield from "abc"


async def later() -> AsyncIterator[str]:
    for one in "abc":
        yield one


def never(_: int) -> None:
    raise AssertionError("a total is known")


def test_each_item_counts_when_the_next_one_is_asked_for() -> None:
    reports: list[dict[str, Any]] = []
    loop = track(["a", "b"], None, reports.append, never)
    assert next(loop) == "a"
    assert reports == []
    assert next(loop) == "b"
    assert reports == [{"current": 1, "total": 2}]
    assert list(loop) == []
    assert reports[-1] == {"current": 2, "total": 2}


def test_a_total_is_given_known_or_unknown() -> None:
    def of(items: Iterator[str], total: int | None) -> list[dict[str, Any]]:
        reports: list[dict[str, Any]] = []
        assert list(track(items, total, reports.append, lambda n: reports.append({"n": n}))) == [
            "a",
            "b",
            "c",
        ]
        return reports

    assert of(unsized(), 4)[-1] == {"current": 3, "total": 4}
    assert of(unsized(), 2)[-1] == {"current": 3, "total": 3}  # more than was said
    assert of(unsized(), None)[-1] == {"n": 3}
    reports: list[dict[str, Any]] = []
    assert list(track([], None, reports.append, never)) == []
    assert reports == []


def test_a_loop_that_is_left_does_not_count_its_item() -> None:
    reports: list[dict[str, Any]] = []
    for item in track("abc", None, reports.append, never):
        if item == "b":
            break
    assert reports == [{"current": 1, "total": 3}]


async def test_async_loops_take_items_of_either_kind() -> None:
    for items, last in (("abc", {"current": 3, "total": 3}), (later(), {"n": 3})):
        reports: list[dict[str, Any]] = []

        async def report(figures: dict[str, Any], reports: list[Any] = reports) -> None:
            reports.append(figures)

        async def count(done: int, reports: list[Any] = reports) -> None:
            reports.append({"n": done})

        loop = track_async(items, None, report, count)
        assert [one async for one in loop] == ["a", "b", "c"]
        assert reports[-1] == last


def test_a_count_is_a_number_without_a_total() -> None:
    assert count_data(3, {"message": "m"}) == {"current": 3, "message": "m"}
    for wrong in (float("nan"), float("inf"), "3", None):
        with pytest.raises(InvalidInput):
            count_data(wrong, {})  # type: ignore[arg-type]


async def test_both_publishers(redis_server: Server, backend: Backend) -> None:
    def work() -> None:
        with Publisher(redis_server.url).operation("sync") as operation:
            for _ in operation.track(range(100), message="row"):
                pass

    await asyncio.to_thread(work)
    async with (
        AsyncPublisher(redis_server.url) as publisher,
        publisher.operation("async") as operation,
    ):
        async for _ in operation.track(range(100), message="row"):
            pass
    for name in ("sync", "async"):
        entries = await written(backend, name)
        assert entries[-2].data == {
            "progress": 1.0, "current": 100, "total": 100, "message": "row",
        }  # fmt: skip
        assert entries[-1].type == "operation_completed"


async def test_a_loop_without_a_total(redis_server: Server, backend: Backend) -> None:
    async with (
        AsyncPublisher(redis_server.url) as publisher,
        publisher.operation("async") as operation,
    ):
        async for _ in operation.track(later()):
            pass

    def work() -> None:
        with Publisher(redis_server.url).operation("sync") as running:
            assert list(running.track(unsized())) == ["a", "b", "c"]

    await asyncio.to_thread(work)
    for name in ("sync", "async"):
        assert (await written(backend, name))[-2].data == {"current": 3}
