"""An operation ends for its viewers whatever its last entry looks like, in every way to watch it.

Each of these entries arrived as `malformed`, and the operation ran for ever.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Json, Viewer
from tests.harness.waiting import until
from tests.legacy_contract.application import Application
from tests.servers.standalone import Server

LARGE = b"x" * 300_000
MANY = json.dumps([{"name": "a", "status": "running"}] * 9_000).encode()
END = b'{"type":"operation_completed","data":{%b,"status":"completed"}}'
END_LAST = b'{"data":{"status":"completed",%b},"type":"operation_completed"}'
ENTRIES: dict[str, dict[str, bytes]] = {
    "a large result": {"message": END % (b'"result":"%b"' % LARGE)},
    "a large result behind": {"message": END_LAST % (b'"result":"%b"' % LARGE)},
    "large ones around it": {
        "message": b'{"data":{"a":"%b","status":"completed","b":"%b"},"type":"operation_completed"}'
        % (LARGE, LARGE)
    },
    "a large list of what has a status itself": {"message": END % (b'"steps":%b' % MANY)},
    "a large text of JSON": {"message": END % (b'"raw":%b' % json.dumps(MANY.decode()).encode())},
    "large and cut off": {"message": END_LAST[:-30] % (b'"result":"%b' % LARGE)},
    "large and broken": {"message": END % (b'"result":"%b"x' % LARGE)},
    "large and NaN": {"message": END % (b'"n":NaN,"result":"%b\\udcff"' % LARGE)},
    "NaN": {"message": END % b'"n":NaN'},
    "Infinity": {"message": END % b'"n":[-Infinity,Infinity]'},
    "half a surrogate pair": {"message": END % b'"file":"\\udcff"'},
    "cut UTF-8": {"message": END % b'"text":"caf\xc3"'},
    "cut JSON": {"message": END_LAST % b'"text":"caf'},
    "no type": {"message": b'{"type":null,"data":{"status":"completed"}}'},
    "a byte order mark": {"message": b"\xef\xbb\xbf" + END % b'"n":1'},
    "large plain fields": {"status": b"completed", "blob": b"x" * 400_000},
    "large plain fields in front": {"blob": b"x" * 400_000, "type": b"operation_completed"},
    "a message beside what is large": {"blob": LARGE, "message": END % b'"n":1'},
}
LOSSY = {"cut UTF-8", "cut JSON"} | {name for name in ENTRIES if name.startswith("large")} | {
    "a large result", "a large result behind", "a large list of what has a status itself",
    "a large text of JSON",
}  # fmt: skip
SOME = [ENTRIES[name] for name in ("a large result", "cut UTF-8", "large plain fields")]


@pytest.fixture
async def replica(redis_server: Server) -> Any:
    async with Replica(redis_server.url, topic={"linger_s": 0}) as replica:
        yield replica


def no_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def is_end(frame: Json) -> bool:
    ended = ("completed", None) if frame["type"] == "operation_completed" else ("completed",)
    return frame["data"].get("status") in ended and "id" in frame


@pytest.mark.parametrize("name", ENTRIES)
async def test_viewers_get_the_end_and_1000_whatever_is_beside_it(
    replica: Replica, backend: Backend, name: str
) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        entry = await backend.add("42", dict(ENTRIES[name]))
        (frame,), close = await viewer.rest()
    assert (frame["id"], close.code) == (entry, 1000)
    assert is_end(frame), frame
    assert frame["data"].get("truncated", False) is (name in LOSSY)
    if name in LOSSY:
        values = sum(map(len, ENTRIES[name].values()))
        names = sum(map(len, ENTRIES[name]))
        assert frame["data"]["bytes"] in (values, values + names)
    # One that comes when it is over gets it from a read of the stream instead of the relay.
    await until(lambda: replica.channel("42") is None)
    async with replica.watch("42") as late:
        state = await late.state()
        frames, close = await late.rest()
    assert (frames, close.code) == ([frame], 1000)
    assert state["data"]["status"] == "completed"


@pytest.mark.parametrize("fields", SOME, ids=range(len(SOME)))
async def test_event_streams_pages_long_polls_and_the_state_end(
    replica: Replica, backend: Backend, fields: dict[str, bytes]
) -> None:
    base = f"http://127.0.0.1:{replica.settings.server.port}"
    await backend.publish("42")
    await backend.add("42", dict(fields))
    async with httpx.AsyncClient(base_url=base, timeout=20) as client:
        state = (await client.get("/operations/42")).json()
        assert (state["status"], state["finished"]) == ("completed", True)
        for wait in (0, 5):
            page = (await client.get("/operations/42/events", params={"wait": wait})).json()
            assert (page["status"], page["finished"], page["more"]) == ("completed", True, False)
            assert is_end(page["events"][-1])
        text = (await client.get("/sse/operations/42")).text
    frames = [
        json.loads(line.removeprefix("data: "), parse_constant=no_constant)
        for line in text.splitlines()
        if line.startswith("data: ")
    ]
    assert is_end(frames[-2])
    assert frames[-1] == {"type": "end", "data": {"code": 1000, "name": "finished"}}


@pytest.mark.parametrize("fields", SOME, ids=range(len(SOME)))
async def test_the_end_of_a_watch_of_many_is_told(
    replica: Replica, backend: Backend, fields: dict[str, bytes]
) -> None:
    async with Viewer(f"ws://127.0.0.1:{replica.settings.server.port}/ws") as viewer:
        await viewer.say(json.dumps({"type": "watch", "operation": "42"}))
        await viewer.state()
        await backend.add("42", dict(fields))
        frame, last = await viewer.next(), await viewer.next()
    assert is_end(frame)
    assert (last["type"], last["data"]) == ("unwatched", {"code": 1000, "name": "finished"})


@pytest.mark.parametrize("fields", SOME, ids=range(len(SOME)))
async def test_an_embedded_gateway_ends(
    redis_server: Server, backend: Backend, fields: dict[str, bytes]
) -> None:
    async with Application(redis_server.url) as app, app.watch("42") as viewer:
        await viewer.state()
        await backend.add("42", dict(fields))
        (frame,), close = await viewer.rest()
    assert is_end(frame)
    assert close.code == 1000


async def test_what_is_deleted_after_a_hard_end_is_not_cancelled(
    redis_server: Server, backend: Backend
) -> None:
    token = "s" * 32
    async with Replica(redis_server.url, publish={"token": token}) as replica:
        await backend.add("42", dict(ENTRIES["a large result"]))
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        async with httpx.AsyncClient(base_url=base, timeout=20) as client:
            gone = await client.delete(
                "/operations/42", headers={"Authorization": f"Bearer {token}"}
            )
    assert gone.json() == {"operation": "42", "status": "completed", "ids": []}
