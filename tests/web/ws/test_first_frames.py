"""What a viewer is sent when it joins: `current_state`, the history it asked for, then what is new.

Part of the sender contract: every test runs over the direct and over the plain ASGI sender.
"""

import json

import pytest

from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.web.request import QUERY_MAX_BYTES


async def test_the_first_frame_tells_state_and_cursor(replica: Replica, backend: Backend) -> None:
    await backend.publish("42", "operation_started", status="starting")
    last = await backend.publish("42", value=1)
    async with replica.watch("42", history="none") as viewer:
        state = await viewer.state()
        started_ms, updated_ms = state["data"].pop("started_ms"), state["data"].pop("updated_ms")
        assert updated_ms == int(last.partition("-")[0]) >= started_ms
        assert state == {
            "type": "current_state",
            "operation": "42",
            "cursor": last,
            "at": last,
            "data": {"status": "starting"},
            "history": {"sent": 0, "available": 2},
        }
        assert viewer.socket.subprotocol == "tidegate.v1"


async def test_an_entry_arrives_as_it_was_written(replica: Replica, backend: Backend) -> None:
    data = '{"n": 1.10, "big": 12345678901234567890123, "text": "\\u00e4\u2028"}'
    text = f'{{"timestamp": "2026-01-01T00:00:00Z", "type": "note", "data": {data}}}'
    async with replica.watch("42") as viewer:
        await viewer.state()
        entry_id = await backend.add("42", {"message": text})
        raw = await viewer.socket.recv()
    assert isinstance(raw, str)
    assert data in raw
    assert json.loads(raw) == {
        "id": entry_id,
        "operation": "42",
        "timestamp": "2026-01-01T00:00:00Z",
        "type": "note",
        "data": json.loads(data),
    }


@pytest.mark.parametrize(
    "warm", [pytest.param(False, id="cold"), pytest.param(True, id="warm", marks=pytest.mark.full)]
)
async def test_a_viewer_gets_the_history_it_asks_for(
    replica: Replica, backend: Backend, warm: bool
) -> None:
    for asked, sent in ((7, 7), (0, 0), (600, 600), (700, 650), ("all", 650)):
        operation = f"op-{asked}"
        ids = await backend.publish_many(operation, 650)
        async with replica.watch(operation) as other:
            if warm:
                await other.state()
            async with replica.watch(operation, history=asked) as viewer:
                state = await viewer.state()
                assert state["history"] == {"sent": sent, "available": 650}
                assert state["cursor"] == ("0-0" if sent == 650 else ids[-sent - 1])
                new = await backend.publish(operation)
                assert await viewer.ids(sent + 1) == [*ids[650 - sent :], new]


async def test_history_all_had_no_bound(redis_server: Server, backend: Backend) -> None:
    ids = await backend.publish_many("42", 650)
    viewer_settings = {"history_max_entries": 300}
    async with (
        Replica(redis_server.url, viewer=viewer_settings) as replica,
        replica.watch("42", history="all") as viewer,
    ):
        state = await viewer.state()
        assert state["history"] == {"sent": 300, "available": 650}  # so nothing is silent
        assert state["cursor"] == ids[349]
        assert await viewer.ids(300) == ids[350:]
        async with replica.watch("42", last_event_id=ids[0]) as resumed:  # a promise, and paced
            await resumed.state()
            assert await resumed.ids(649) == ids[1:]


async def test_the_entries_behind_a_short_first_page_are_not_missed(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """Large entries: the attach stops at its bound in bytes long before it has the history."""
    limits = {"max_bytes": 4096, "max_entry_bytes": 4096}
    async with Replica(redis_server.url, sender=sender, dispatch=limits) as replica:
        ids = await backend.publish_many("42", 300, pad=1000)
        async with replica.watch("42") as viewer:
            assert (await viewer.state())["history"] == {"sent": 100, "available": 300}
            assert await viewer.ids(100) == ids[200:]


async def test_an_unknown_operation_is_waited_for(replica: Replica, backend: Backend) -> None:
    async with replica.watch("42") as viewer:
        state = await viewer.state()
        assert state["cursor"] == "0-0"
        assert state["data"] == {"status": "unknown"}
        assert state["history"] == {"sent": 0, "available": 0}
        assert not await backend.exists("42"), "watching creates nothing"
        ids = await backend.publish_many("42", 3)
        assert await viewer.ids(3) == ids


async def test_a_stream_that_never_begins_is_given_up(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    topic = {"wait_for_stream_s": 0.1}
    async with (
        Replica(redis_server.url, sender=sender, topic=topic) as replica,
        replica.watch("42") as viewer,
    ):
        frames, close = await viewer.rest()
        assert [f["type"] for f in frames] == ["current_state", "error"]
        assert frames[-1]["data"]["code"] == "expired"
        assert close.code == 4410


async def test_what_is_no_stream_is_refused_with_a_reason(
    replica: Replica, backend: Backend
) -> None:
    await backend.client.set(PREFIX + "42", "a string")
    async with replica.watch("42") as viewer:
        frames, close = await viewer.rest()
        assert [f["data"]["code"] for f in frames] == ["not_a_stream"]
        assert frames[0]["data"]["retry"] is False
        assert close.code == 4404


async def test_a_stream_that_turns_into_something_else_ends_its_viewers(
    replica: Replica, backend: Backend
) -> None:
    await backend.publish("42")
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.entries(1)
        await backend.client.set(PREFIX + "42", "a string")
        frames, close = await viewer.rest()
        assert [f["data"]["code"] for f in frames] == ["not_a_stream"]
        assert close.code == 4404


HOSTILE_IDS = ("a%20b", "{x}", "x{y}", "a%00b", "%2e%2e", "*", "x" * 129, "%C3%A4", "-x", "a/b", "")
HOSTILE_QUERIES = (
    "last_event_id=x",
    "last_event_id=1-2-3",
    "last_event_id=-1",
    "last_event_id=99999999999999999999-0",
    "last_event_id=%C3%A4",
    "history=-1",
    "history=1e3",
    "history=%D9%A1",
    "history=10001",
    "history=" + "9" * 30,
    "&".join(["history=1"] * 40),
    "x=" + "y" * QUERY_MAX_BYTES,
)


async def test_a_hostile_request_is_refused_before_any_key(
    replica: Replica, backend: Backend
) -> None:
    urls = [replica.url(operation) for operation in HOSTILE_IDS]
    urls += [f"{replica.url('42')}?{query}" for query in HOSTILE_QUERIES]
    for url in urls:
        async with Viewer(url) as viewer:
            frames, close = await viewer.rest()
            assert [f["data"]["code"] for f in frames] == ["bad_request"], url
            assert close.code == 4400
    assert replica.hub.stats().operations == 0
    assert await backend.client.keys(f"{PREFIX}*") == []


async def test_every_path_for_sockets_is_answered_with_a_reason(replica: Replica) -> None:
    port = replica.settings.server.port
    for path in ("/", "/ws/operations", "/ws/other/42"):
        async with Viewer(f"ws://127.0.0.1:{port}{path}") as viewer:
            frames, close = await viewer.rest()
            assert [f["type"] for f in frames] == ["error"]
            assert close.code == 4400


@pytest.mark.parametrize("how", ["close", "vanish"])
async def test_nothing_of_a_viewer_stays_behind(
    replica: Replica, backend: Backend, how: str
) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        assert replica.viewers == 1
        if how == "close":
            await viewer.socket.close()
        else:
            viewer.vanish()
        await until(lambda: replica.viewers == 0)


async def test_viewers_that_vanish_in_a_flood_are_all_forgotten(
    replica: Replica, backend: Backend
) -> None:
    """The socket goes while a write to it is under way."""
    async with replica.watch("42") as witness:
        await witness.state()
        for round_ in range(10):
            viewers = [replica.watch("42", history="none") for _ in range(5)]
            for viewer in viewers:
                await viewer.__aenter__()
                await viewer.state()
            ids = await backend.publish_many("42", 50, pad=500)
            for viewer in viewers:
                viewer.vanish()
            await witness.until_id(ids[-1])
            await until(lambda: replica.viewers == 1, f"round {round_}: {replica.viewers} left")
