"""`/asyncapi.json` and `/docs`: they describe what the gateway does.

Every frame that any test's `Viewer` reads is held against the description; here is what is left:
that the document is whole, the kinds of frames that are hard to get, and the messages of viewers.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.harness.backend import Backend
from tests.harness.described import assert_described, is_described, name_of
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.auth.tokens import SECRET
from tidegate.model import frames
from tidegate.model.close_codes import CLOSE_CODES
from tidegate.model.entries import Entry
from tidegate.model.frames import FrameKind, GapReason
from tidegate.model.ids import OperationId, StreamId
from tidegate.web.frame_schemas import ALL_FRAMES, ALL_MESSAGES, FRAMES, MESSAGES, asyncapi

OPERATION = OperationId("42")
AT = StreamId(1795, 1)
ENTRY = Entry(AT, "gap", b"1", b"{}", None)

BUILT = {
    "entry_frame": frames.entry_frame(ENTRY, b"1795-1", b"42", FrameKind.ENTRY),
    "unstored_entry_frame": frames.unstored_entry_frame(ENTRY, b"42"),
    "cancelling_frame": frames.cancelling_frame(OPERATION, str(AT), repeated=False),
    "current_state_frame": frames.current_state_frame(
        OPERATION, AT, "unknown", sent=None, available=7, known={"status": "queued", "x": [1]}
    ),
    "gap_frame": frames.gap_frame(OPERATION, AT, None, GapReason.REWOUND),
    "skipped_frame": frames.skipped_frame(OPERATION, 17),
    "stale_frame": frames.stale_frame(OPERATION, "2026-11-23T06:29:05.000Z"),
    "live_frame": frames.live_frame(OPERATION),
    "reconnect_frame": frames.reconnect_frame(1840, "draining"),
    "error_frame": frames.error_frame("x", "y", retry=False, details={"more": 1}),
    "ack_request_frame": frames.ack_request_frame(OPERATION, AT),
    "unwatched_frame": frames.unwatched_frame(OPERATION, 1000, "unwatch"),
    "expiring_frame": frames.expiring_frame(60.0),
    "refreshed_frame": frames.refreshed_frame(),
}


def references(node: Any) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "$ref":
            yield value
        elif isinstance(value, dict | list):
            yield from references(value)


def test_all_frames_that_can_be_built_are_described() -> None:
    builders = [
        name
        for name, _ in inspect.getmembers(frames, inspect.isroutine)
        if name.endswith("_frame") and not name.startswith("_")
    ]
    assert sorted(builders) == sorted(BUILT)
    built = [json.loads(frame.payload) for frame in (*BUILT.values(), frames.PONG)]
    for frame in built:
        assert_described(frame)
    assert {name_of(frame) for frame in built} == ALL_FRAMES.keys()


@pytest.mark.parametrize("needs_token", [False, True])
def test_the_document_is_whole(needs_token: bool) -> None:
    document = asyncapi("1.2.3", needs_token=needs_token)
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for schema in document["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(
            {**schema, "$schema": "http://json-schema.org/draft-07/schema#"}
        )
    assert ("security" in document["operations"]["operation_frames"]) is needs_token
    assert [row["code"] for row in document["x-close-codes"]] == list(CLOSE_CODES)
    single, many = document["channels"]["operation"], document["channels"]["operations"]
    assert single["messages"].keys() == (FRAMES | MESSAGES).keys()
    assert many["messages"].keys() == (ALL_FRAMES | ALL_MESSAGES).keys()


async def test_frames_and_messages_of_a_socket_with_many(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42", n=1)
    said: list[dict[str, Any]] = []
    async with (
        Replica(redis_server.url) as replica,
        connect(
            f"ws://127.0.0.1:{replica.settings.server.port}/ws",
            subprotocols=[Subprotocol("tidegate.v1")],
        ) as socket,
    ):

        async def say(**message: Any) -> None:
            assert is_described(message), message
            await socket.send(json.dumps(message))

        async def until(type_: str) -> None:
            while not said or said[-1]["type"] != type_:
                frame = json.loads(await socket.recv())
                assert_described(frame)
                said.append(frame)

        await say(type="ping")
        await until("pong")
        await say(type="watch", operation="42", history="all", acks=True)
        await until("progress")
        await say(type="ack", operation="42", id=said[-1]["id"])
        await say(type="watch", operation="42", last_event_id="0-0", history=10)
        await until("error")
        await say(type="unwatch", operation="42")
        await until("unwatched")
    assert [frame["type"] for frame in said] == [
        *("pong", "current_state", "progress", "error", "unwatched")
    ]


@pytest.mark.parametrize(
    "message",
    [
        *({}, {"type": "subscribe"}, {"type": "watch"}, {"type": "watch", "operation": "a b"}),
        *({"type": "watch", "operation": 42}, {"type": "ack"}, {"type": "ack", "id": "x"}),
        *({"type": "refresh"}, {"type": "watch", "operation": "42", "acks": "1"}),
    ],
)
def test_what_a_gateway_refuses_is_not_described(message: dict[str, Any]) -> None:
    assert not is_described(message)


async def test_both_are_served(redis_server: Server) -> None:
    groups: dict[str, Any] = {
        "server": {"auth": "jwt"},
        "auth": {"secret": SECRET},
        "source": {"kind": "none"},
    }
    async with (
        Replica(redis_server.url, **groups) as replica,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{replica.settings.server.port}") as http,
    ):
        document = (await http.get("/asyncapi.json")).json()
        page = await http.get("/docs")
        links = re.findall(r'href="([^"]+)"', page.text)
        assert [(await http.get(f"/{link}")).status_code for link in links] == [200, 200]
        assert (await http.post("/docs")).status_code == 405
    assert document == asyncapi(document["info"]["version"], needs_token=True)
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none';")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in page.text
    assert "style=" not in page.text
    for shown in ("/operations/{operation_id}/events", "/sse/operations/{operation_id}", "/ws"):
        assert f"<td>{shown}" in page.text
    for name in (*ALL_FRAMES, *ALL_MESSAGES, "connection_limit"):
        assert f"<td>{name}" in page.text
