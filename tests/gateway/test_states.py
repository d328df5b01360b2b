"""The state that `current_state` tells: the same as that of all entries, for any cut; read once for
all who join; and folded anew wherever it is not proven to go on.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.fake_redis import FakeRedis
from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import OPERATION, Stage
from tests.harness.clock import run
from tests.harness.examples import examples
from tidegate.gateway import states
from tidegate.model.errors import RedisUnavailable
from tidegate.model.folded_state import FoldedState, fold_all, is_entry
from tidegate.model.state_data import RESULT_MAX_BYTES, TEXT_MAX_CHARS

Written = tuple[str, dict[str, Any]]
START_MS = 1_795_000_000_000
SMALL_RING = {"ring_entries": 10}
#: What counts frames and tells positions, no part of what an operation is.
NO_PART = {"entries", "at", "cursor"}

FIGURES = st.one_of(
    st.floats(0, 1), st.integers(0, 100), st.sampled_from(["0.5", "70", "x", None, True])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "\U0001f600"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "progress": FIGURES,
        "current": FIGURES,
        "total": FIGURES,
        "unit": st.sampled_from(["files", "rows"]),
        "title": st.sampled_from(["One", "Two", ""]),
        "message": st.sampled_from(["goes on", ""]),
        "error": st.sampled_from(["no", {"message": "not at all"}]),
        "eta_s": st.integers(0, 9),
        "result": VALUES,
        "text": st.text(max_size=3),
        "status": st.sampled_from(["running", "queued", "completed", "failed", "cancelled"]),
        "fold": st.sampled_from(["append", "merge", "replace", None]),
        "a": VALUES,
    },
)
TYPES = ["progress", "append", "merge", "update", "operation_started", "operation_failed", "token"]
ENTRIES = st.lists(st.tuples(st.sampled_from(TYPES), DATA), max_size=30)
#: Who joins behind how many of the entries, and with how much history.
JOINS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([0, 1, 7, 100, None])), min_size=1, max_size=5
)


def essence(state: FoldedState) -> dict[str, Any]:
    return {name: value for name, value in asdict(state).items() if name not in NO_PART}


def seen_by(socket: FakeSocket) -> FoldedState:
    return fold_all(FoldedState(), socket.frames)


def of_entries(socket: FakeSocket) -> FoldedState:
    """By all entries, of one that was there from the beginning."""
    return fold_all(FoldedState(), filter(is_entry, socket.frames))


def told_to(socket: FakeSocket) -> dict[str, Any]:
    """The data of its first frame."""
    data: dict[str, Any] = socket.frames[0]["data"]
    return data


async def read_state(stage: Stage) -> dict[str, Any]:
    state = await stage.hub.reader.state(OPERATION)
    assert state is not None
    found: dict[str, Any] = orjson.loads(orjson.dumps(state.data))
    return found


@pytest.fixture(autouse=True)
def _real_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        FakeRedis, "_now_ms", lambda self: START_MS + int(asyncio.get_running_loop().time() * 1000)
    )


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES, JOINS, st.sampled_from([0.0, 0.5]))
def test_whoever_joins_sees_the_state_of_all_entries(
    entries: list[Written], joins: list[tuple[int, int | None]], pause_s: float
) -> None:
    async def play() -> None:
        rules = {"append_types": ["append", "token"], "terminal_grace_s": 3600, **SMALL_RING}
        async with Stage(topic=rules, page_entries=5) as stage:
            first = await stage.watch(after="0-0")
            sockets = []
            for count, (type_, data) in enumerate([*entries, ("log", {})]):
                for behind, history in joins:
                    if min(behind, len(entries)) == count:
                        sockets.append(await stage.watch(history=history))
                stage.redis.write(OPERATION, type_, **data)
                await asyncio.sleep(pause_s)
            sockets += [await stage.watch(history=history) for _, history in joins]
            wanted = of_entries(first)
            for socket in sockets:
                assert essence(seen_by(socket)) == essence(wanted)
                assert seen_by(socket).cursor == wanted.cursor
            assert await read_state(stage) == told_to(sockets[-1])
            polled = {"type": "current_state", "at": wanted.cursor, "data": told_to(sockets[-1])}
            assert essence(fold_all(FoldedState(cursor=wanted.cursor), [polled])) == essence(wanted)

    run(play())


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES, st.lists(st.integers(0, 30), max_size=4))
def test_it_is_the_same_whether_or_not_somebody_watches(
    entries: list[Written], reads: list[int]
) -> None:
    async def play() -> None:
        topic = {**SMALL_RING, "linger_s": 0.01, "terminal_grace_s": 3600}
        async with Stage(topic=topic, page_entries=5) as cold, Stage(topic=topic) as other:
            other.redis._streams = cold.redis._streams
            for count, (type_, data) in enumerate([*entries, ("log", {})]):
                if count in reads:
                    await cold.hub.reader.state(OPERATION)
                if count + 1 in reads:
                    (await cold.watch(history=0)).vanish()
                    await asyncio.sleep(60)
                cold.redis.write(OPERATION, type_, **data)
            assert await read_state(cold) == await read_state(other)

    run(play())


async def test_one_frame_draws_a_full_bar() -> None:
    async with Stage() as stage:
        redis = stage.redis
        redis.write("42", "operation_started", title="Import", status="running")
        await asyncio.sleep(2)
        last = redis.write("42", current=1, total=4, unit="files", message="reads")
        socket = await stage.watch(history=0)
        started_ms, updated_ms = (
            told_to(socket).pop("started_ms"),
            told_to(socket).pop("updated_ms"),
        )
        assert updated_ms - started_ms == pytest.approx(2000, abs=1)
        assert told_to(socket).pop("estimated_end_ms") == started_ms + 4 * (updated_ms - started_ms)
        assert socket.frames == [
            {
                "type": "current_state",
                "operation": "42",
                "cursor": last,
                "at": last,
                "data": {
                    "status": "running",
                    "progress": 0.25,
                    "current": 1,
                    "total": 4,
                    "unit": "files",
                    "title": "Import",
                    "message": "reads",
                },
                "history": {"sent": 0, "available": 2},
            }
        ]


async def test_each_entry_is_folded_once_for_all_who_join() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        stage.redis.write_many("42", 1_000)
        await asyncio.gather(*(stage.watch(history=0) for _ in range(100)))
        assert stage.hub.states.folded == 1_000
        stage.redis.write_many("42", 7)
        await stage.rest()
        await asyncio.gather(*(stage.watch(history=100) for _ in range(100)))
        assert stage.hub.states.folded == 1_007


async def test_live_entries_are_not_folded() -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        stage.redis.write_many("42", 300)
        await stage.rest()
        assert len(socket.ids) == 300
        assert stage.hub.states.folded == 0


async def test_who_resumes_is_told_the_state_only_where_it_is_known() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 20)
        socket = await stage.watch(after=ids[4])
        assert ("at" in socket.frames[0], stage.hub.states.folded) == (False, 0)
        await stage.watch()
        socket = await stage.watch(after=ids[4])
        assert (socket.frames[0]["at"], stage.hub.states.folded) == (ids[-1], 20)


async def test_without_redis_there_is_history_and_no_state() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch(after=ids[-1])
        stage.redis.lose()
        socket = await stage.watch(history=5)
        assert socket.frames[0] == {
            "type": "current_state",
            "operation": "42",
            "cursor": ids[-6],
            "data": {"status": "running"},
            "history": {"sent": 5, "available": 50},
        }
        assert socket.ids == ids[-5:]


async def test_a_read_that_fails_is_done_without() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch(after=ids[-1])
        stage.redis.answers.clear()
        sockets = [stage.watch_now(history=5) for _ in range(3)]
        await stage.rest()
        assert [socket.frames for socket in sockets] == [[], [], []]
        stage.redis.is_away = True
        stage.redis.answers.set()
        await stage.rest()
        assert [socket.ids for socket in sockets] == 3 * [ids[-5:]]
        assert all("at" not in socket.frames[0] for socket in sockets)


async def test_who_asks_together_is_answered_together() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 5)
        stage.redis.answers.clear()
        asked = [asyncio.create_task(read_state(stage)) for _ in range(3)]
        await stage.rest()
        stage.redis.is_away = True
        stage.redis.answers.set()
        for one in asked:
            with pytest.raises(RedisUnavailable):
                await one
        stage.redis.is_away = False
        assert (await read_state(stage))["status"] == "running"
        assert stage.hub.states.folded == 5


async def test_who_gives_up_does_not_stop_the_others() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 5)
        stage.redis.answers.clear()
        asked = [asyncio.create_task(read_state(stage)) for _ in range(3)]
        await stage.rest()
        asked[0].cancel()
        await stage.rest()
        stage.redis.answers.set()
        assert [(await one)["status"] for one in asked[1:]] == ["running", "running"]
        assert stage.hub.states.folded == 5


async def test_who_joins_when_the_stream_has_gone_is_told_no_state_of_it() -> None:
    async with Stage(topic={"expired_grace_s": 60}) as stage:
        stage.redis.write_many("42", 5)
        await stage.watch(after="0-0")
        stage.redis.delete("42")
        await stage.rest()
        assert stage.channel().topic.vanished
        socket = await stage.watch(history=0)
        assert told_to(socket) == {"status": "running"}
        assert "at" not in socket.frames[0]


async def test_the_state_outlives_the_entries_that_it_is_made_of() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        stage.redis.write("42", "operation_started", title="Import")
        stage.redis.write("42", "append", text="a")
        await stage.watch()
        stage.redis.write_many("42", 50)
        stage.redis.trim("42", 50)
        await stage.rest()
        socket = await stage.watch(history=0)
        assert (told_to(socket)["title"], told_to(socket)["text"]) == ("Import", "a")
        assert "partial" not in told_to(socket)


async def test_entries_in_memory_count_though_they_were_trimmed() -> None:
    async with Stage() as stage:
        stage.redis.write("42", "operation_started", title="Import")
        await stage.watch(after="0-0")
        stage.redis.write_many("42", 50)
        stage.redis.trim("42", 2)
        await stage.rest()
        socket = await stage.watch(history=0)
        assert (told_to(socket)["title"], stage.redis.pages) == ("Import", 0)
        assert "partial" not in told_to(socket)


async def test_where_entries_were_trimmed_unseen_the_state_is_partial() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        stage.redis.write("42", "operation_started", title="Import")
        await stage.watch()
        stage.redis.hold = True
        stage.redis.write_many("42", 50)
        stage.redis.trim("42", 20)
        stage.redis.lose()
        stage.redis.hold = False
        stage.redis.come_back()
        await asyncio.sleep(1)
        socket = await stage.watch(history=0)
        assert (told_to(socket)["title"], told_to(socket)["partial"]) == ("Import", True)
        async with Stage() as other:
            other.redis._streams = stage.redis._streams
            data = await read_state(other)
            assert ("title" in data, data["partial"]) == (False, True)


@pytest.mark.parametrize("watched", [False, True], ids=["cold", "followed"])
async def test_the_state_of_another_log_is_not_kept(watched: bool) -> None:
    async with Stage() as stage:
        if watched:
            await stage.watch()
        for title in ("one", "two"):
            stage.redis.stream("42").add(7, json.dumps({"type": "x", "data": {"title": title}}))
            stage.redis.stream("42").add(8, json.dumps({"type": "x", "data": {"n": title}}))
            stage.redis.ring("42")
            await stage.rest()
            assert (await read_state(stage))["title"] == title
            stage.redis.delete("42")
            await asyncio.sleep(1)


async def test_a_poller_reads_what_is_new() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 1_200)
        await read_state(stage)
        assert (stage.redis.pages, stage.hub.states.folded) == (3, 1_200)
        stage.redis.write("42", title="New")
        for _ in range(3):
            assert (await read_state(stage))["title"] == "New"
        assert (stage.redis.pages, stage.hub.states.folded) == (6, 1_201)


async def test_of_a_long_stream_beginning_and_end_are_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(states, "NEWEST_ENTRIES", 50)
    async with Stage(page_entries=20) as stage:
        stage.redis.write("42", "operation_started", title="Import")
        stage.redis.write_many("42", 100)
        stage.redis.write("42", progress=0.5)
        data = await read_state(stage)
        assert (data["title"], data["progress"], data["partial"]) == ("Import", 0.5, True)
        assert stage.hub.states.folded == 70


async def test_of_a_state_that_is_far_behind_the_newest_entries_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(states, "NEWEST_ENTRIES", 50)
    async with Stage(topic=SMALL_RING, page_entries=20) as stage:
        stage.redis.write("42", "operation_started", title="Import")
        await stage.watch()
        stage.redis.write_many("42", 1_000)
        stage.redis.write("42", progress=0.5)
        await stage.rest()
        for history in (0, 100):
            data = told_to(await stage.watch(history=history))
            assert (data["title"], data["progress"], data["partial"]) == ("Import", 0.5, True)
        assert stage.hub.states.folded <= 1 + 20 + 50


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage() as stage:
        most = stage.hub.states._max_bytes = 100_000
        for number in range(30):
            stage.redis.write(f"op{number}", "append", text="x" * 10_000)
            await stage.watch(f"op{number}", history=0)
            assert 0 < stage.hub.states.size_bytes <= most
        stage.redis.write("42", "append", text="x" * 200_000)
        socket = await stage.watch(history=0)
        assert len(told_to(socket)["text"]) == 200_000
        assert stage.hub.states.size_bytes == 0


async def test_what_is_too_large_is_not_told() -> None:
    async with Stage() as stage:
        stage.redis.write("42", message="m" * (TEXT_MAX_CHARS + 1), result=["small"])
        stage.redis.write("42", result="r" * RESULT_MAX_BYTES, status="completed")
        socket = await stage.watch()
        data = told_to(socket)
        assert (data["message"], data["partial"]) == ("m" * TEXT_MAX_CHARS, True)
        assert ("result" in data, data["result_omitted"]) == (False, True)
        assert seen_by(socket).result == "r" * RESULT_MAX_BYTES


async def test_what_a_source_says_stands_behind_the_entries() -> None:
    async with Stage() as stage:
        known = {
            "status": "queued",
            "title": "Import",
            "message": "waits",
            "progress": 50,
            "own": 1,
        }
        socket = await stage.watch(state=known)
        assert socket.frames[0]["data"] == known
        assert "at" not in socket.frames[0]
        stage.redis.write("42", message="reads")
        await stage.rest()
        socket = await stage.watch(state=known)
        data = {
            "status": "running",
            "title": "Import",
            "message": "reads",
            "progress": 0.5,
            "own": 1,
        }
        assert {name: told_to(socket)[name] for name in data} == data
        state = seen_by(socket)
        assert (state.title, state.message, state.progress) == ("Import", "reads", 0.5)


async def test_values_that_not_every_parser_takes() -> None:
    async with Stage() as stage:
        text = (
            '{"type":"merge","data":{"half":"\\ud83d","long":123456789012345678901234,"text":"a"}}'
        )
        stage.redis.stream("42").add(7, text)
        socket = await stage.watch(history=0)
        assert told_to(socket)["merged"]["half"] == "\ud83d"
        assert seen_by(socket).merged["text"] == "a"
