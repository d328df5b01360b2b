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
from tidegate.client.updates import progress_data
from tidegate.model.errors import InvalidInput


def unsized() -> Iterator[str]:
    yield from "abc"


async def later() -> AsyncIterator[str]:
    for one in "abc":
        yield one


def test_each_item_counts_when_the_next_one_is_asked_for() -> None:
    reports: list[dict[str, Any]] = []
    loop = track(["a", "b"], None, reports.append)
    assert next(loop) == "a"
    assert reports == []
    assert next(loop) == "b"
    assert reports == [{"current": 1, "total": 2}]
    assert list(loop) == []
    assert reports[-1] == {"current": 2, "total": 2}


def test_a_total_is_given_known_or_unknown() -> None:
    def of(items: Iterator[str], total: int | None) -> list[dict[str, Any]]:
        reports: list[dict[str, Any]] = []
        assert list(track(items, total, reports.append)) == ["a", "b", "c"]
        return reports

    assert of(unsized(), 4)[-1] == {"current": 3, "total": 4}
    assert of(unsized(), 2)[-1] == {"current": 3, "total": 3}  # more than was said
    assert of(unsized(), None)[-1] == {"current": 3}
    reports: list[dict[str, Any]] = []
    assert list(track([], None, reports.append)) == []
    assert reports == []


def test_a_loop_that_is_left_does_not_count_its_item() -> None:
    reports: list[dict[str, Any]] = []
    for item in track("abc", None, reports.append):
        if item == "b":
            break
    assert reports == [{"current": 1, "total": 3}]


async def test_async_loops_take_items_of_either_kind() -> None:
    for items, last in (("abc", {"current": 3, "total": 3}), (later(), {"current": 3})):
        reports: list[dict[str, Any]] = []

        async def report(figures: dict[str, Any], reports: list[Any] = reports) -> None:
            reports.append(figures)

        assert [one async for one in track_async(items, None, report)] == ["a", "b", "c"]
        assert reports[-1] == last


def test_a_count_without_a_total_is_no_fraction() -> None:
    assert progress_data(None, {"current": 3, "message": "m"}) == {"current": 3, "message": "m"}
    for wrong in ({"current": float("nan")}, {"current": "3"}, {"current": 3, "total": 0}, {}):
        with pytest.raises(InvalidInput):
            progress_data(None, dict(wrong))


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
