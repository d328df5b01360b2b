"""A feed as a list, without a socket: what is watched, what is in it, and what falls out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.feed_list import AGAIN_S, FeedList
from tidegate.model.errors import InvalidRequest
from tidegate.model.ids import OperationId

NOW = 1_795_000_000.0


def new_list(**options: Any) -> FeedList:
    made = FeedList(OperationId("user:7"), **({"limit": 100, "keep_ended_s": 60.0} | options))
    made.opened(None)
    assert said(made) == [{"type": "watch", "operation": "user:7", "history": made._limit}]
    return made


def said(feed: FeedList) -> list[dict[str, Any]]:
    return [json.loads(message) for message in feed.outgoing()]


def lists(feed: FeedList, operation: object, at: float = 0, title: object = None) -> None:
    data = {"operation": operation} | ({} if title is None else {"title": title})
    entry_id = f"{int((NOW + at) * 1000)}-0"
    feed.listed({"id": entry_id, "operation": "user:7", "type": "listed", "data": data}, NOW + at)


def entry(operation: str, at: float, type_: str = "progress", **data: Any) -> dict[str, Any]:
    entry_id = f"{int((NOW + at) * 1000)}-0"
    return {"id": entry_id, "operation": operation, "timestamp": 0, "type": type_, "data": data}


def unwatched(operation: str, code: object) -> dict[str, Any]:
    return {"type": "unwatched", "operation": operation, "data": {"code": code}}


def names(feed: FeedList) -> list[str]:
    return [one.operation for one in feed.operations()]


def test_newest_first_and_each_watched_once() -> None:
    feed = new_list()
    for at, operation in enumerate(["a", "b", "a", "c"]):
        lists(feed, operation, at, f"Title {at}")
    assert names(feed) == ["c", "a", "b"]
    assert [(one["operation"], one["history"]) for one in said(feed)] == [
        ("a", "none"), ("b", "none"), ("c", "none"),
    ]  # fmt: skip
    feed.received(entry("a", 5, progress=0.5), NOW + 5)
    _, a, _ = feed.operations()
    assert (a.title, a.listed_s, a.state.progress) == ("Title 2", NOW + 2, 0.5)
    feed.received(entry("a", 6, title="Its own"), NOW + 6)
    assert feed.operations()[1].title == "Its own"


def test_what_has_ended_falls_out_after_a_time_and_may_be_listed_again() -> None:
    feed = new_list(keep_ended_s=10)
    lists(feed, "a")
    lists(feed, "b", 1)
    feed.received(entry("a", 5, "operation_failed"), NOW + 5)
    feed.received(unwatched("a", 1000), NOW + 6)
    assert feed.next_due() == NOW + 15
    feed.look(NOW + 14.9)
    assert names(feed) == ["b", "a"]
    feed.look(NOW + 15)
    assert names(feed) == ["b"]
    assert feed.next_due() is None
    said(feed)
    lists(feed, "a", 20)
    assert names(feed) == ["a", "b"]
    assert [one["operation"] for one in said(feed)] == ["a"]


def test_a_finished_one_that_is_listed_again_begins_anew() -> None:
    feed = new_list()
    lists(feed, "a")
    feed.received(entry("a", 5, "operation_completed"), NOW + 5)
    feed.received(unwatched("a", 1000), NOW + 6)
    lists(feed, "a", 7)
    assert [one.state.status for one in feed.operations()] == ["unknown"]
    assert len(said(feed)) == 2


def test_the_oldest_make_room() -> None:
    feed = new_list(limit=2)
    for number in range(5):
        lists(feed, f"op-{number}", number)
    assert names(feed) == ["op-4", "op-3"]
    gone = [one["operation"] for one in said(feed) if one["type"] == "unwatch"]
    assert gone == ["op-0", "op-1", "op-2"]


@pytest.mark.parametrize(("code", "stays"), [(4403, False), (4404, False), (1013, True), (7, True)])
def test_a_watch_that_was_refused(code: int, stays: bool) -> None:
    feed = new_list()
    lists(feed, "a")
    said(feed)
    feed.received(unwatched("a", code), NOW)
    assert names(feed) == (["a"] if stays else [])
    feed.look(NOW + AGAIN_S / 2)
    assert said(feed) == []
    feed.look(NOW + AGAIN_S)
    assert len(said(feed)) == stays


def test_another_connection_resumes_all_of_it() -> None:
    feed = new_list()
    for operation in ("a", "b", "c"):
        lists(feed, operation)
    feed.received(entry("a", 5), NOW + 5)
    feed.received(unwatched("b", 1000), NOW + 5)
    feed.received(unwatched("c", 1013), NOW + 5)
    feed.closed()
    feed.look(NOW + 60)
    assert said(feed) == []
    feed.opened("9-0")
    assert said(feed) == [
        {"type": "watch", "operation": "user:7", "last_event_id": "9-0"},
        {"type": "watch", "operation": "a", "last_event_id": f"{int(NOW + 5) * 1000}-0"},
        {"type": "watch", "operation": "c", "history": "none"},
    ]


HOSTILE: list[Any] = [None, 7, "", "../x", "x" * 129, ["a"], {"a": 1}, "user:7"]


@pytest.mark.parametrize("operation", HOSTILE)
def test_entries_that_list_nothing(operation: object) -> None:
    feed = new_list()
    lists(feed, operation)
    assert (names(feed), said(feed)) == ([], [])


def test_frames_that_make_no_sense() -> None:
    feed = new_list()
    lists(feed, "a")
    for frame in (
        {},
        {"operation": "b", "type": "progress"},
        {"operation": ["a"], "type": "progress"},
        {"operation": "a", "type": 7, "data": 7},
        {"operation": "a", "type": "unwatched"},
        {"operation": "a", "type": "unwatched", "data": {"code": "x"}},
    ):
        feed.received(frame, NOW)
    assert names(feed) == ["a"]


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 101}, {"keep_ended_s": -1}])
def test_numbers_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        new_list(**options)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("lepuf")), max_size=60))
def test_never_more_than_the_limit_and_never_watched_twice(steps: list[tuple[str, str]]) -> None:
    feed = new_list(limit=3, keep_ended_s=5)
    watched: set[str] = set()
    for at, (operation, what) in enumerate(steps):
        match what:
            case "l":
                lists(feed, operation, at)
            case "e" | "p":
                type_ = "operation_completed" if what == "e" else "progress"
                feed.received(entry(operation, at, type_), NOW + at)
            case "u" if operation in watched:
                feed.received(unwatched(operation, 1000), NOW + at)
                watched.discard(operation)
            case "f":
                feed.look(NOW + at)
        for message in said(feed):
            if message["type"] == "watch":
                assert message["operation"] not in watched
                watched.add(message["operation"])
            else:
                watched.remove(message["operation"])
        assert len(names(feed)) <= 3
        assert set(names(feed)) >= watched
