"""A text that comes token by token, on real servers: the same for everybody, whichever way and
whichever replica it is read on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Json, Viewer
from tests.servers.standalone import Server

#: As JSON writes them: each is put between quotes as it is.
WRITTEN = [
    *("Hel", "lo ", "\\u0000", "\\ud83d", "\\ude00", "😀", "\\\\u00e9", '\\"', "\\n", ""),
    *("\\ud83d\\ude00", "é\u2028", "\\/", "</script>", "\\uDBFF", "x\\uDFFF", " "),
]
COUNT = 1_200


async def write(backend: Backend, start: int, count: int) -> list[str]:
    """The next tokens; every 400th is behind an entry of another type."""
    ids = []
    for n in range(start, start + count):
        if n % 400 == 399:
            await backend.publish("42", "tool", name="search")
        text = WRITTEN[n % len(WRITTEN)]
        message = '{"type":"append","data":{"text":"' + text + '"}}'
        ids.append(await backend.add("42", {"message": message}))
    return ids


def expected(start: int, end: int) -> str:
    texts = (json.loads(f'"{WRITTEN[n % len(WRITTEN)]}"') for n in range(start, end))
    return "".join(texts)


def text_of(frames: Sequence[Json]) -> str:
    return "".join(frame["data"]["text"] for frame in frames if frame["type"] == "append")


@pytest.mark.real("valkey9")
async def test_the_text_is_the_same_on_every_way_and_replica(
    redis_server: Server, backend: Backend
) -> None:
    async with (
        Replica(redis_server.url, pod="one") as one,
        Replica(redis_server.url, pod="two") as two,
        one.watch("42") as live,
        plain_client(f"http://127.0.0.1:{two.settings.server.port}") as client,
    ):
        ids = await write(backend, 0, COUNT)
        await live.until_id(ids[-1])
        whole = expected(0, COUNT)
        assert text_of(live.frames) == whole
        assert not any("joined" in frame for frame in live.frames)

        for replica in (one, two, two):
            async with replica.watch("42", history="all") as late:
                frames = await late.until_id(ids[-1])
                assert text_of(frames) == whole
                assert len(frames) < COUNT / 4
                await _goes_on(backend, late)
                ids.append(late.frames[-1]["id"])
                whole += "next"
        # From the middle of what is joined, on the replica where it was not read.
        for behind in (1, 2, 150, 333, 1_000):
            for replica in (one, two):
                async with replica.watch("42", last_event_id=ids[COUNT - 1 - behind]) as back:
                    frames = await back.until_id(ids[-1])
                    assert text_of(frames) == whole[len(expected(0, COUNT - behind)) :]
        pages: list[Json] = []
        for joined in ("true", "false"):
            pages.clear()
            after, more, events = "", True, 0
            while more:
                query = {"limit": "500", "joined": joined, "after": after}
                page = (await client.get("/operations/42/events", params=query)).json()
                after, more = page["cursor"], page["more"]
                pages += page["events"]
                events += sum(event.get("joined", 1) for event in page["events"])
            assert text_of(pages) == whole
            assert events == COUNT + 3 + 3
            assert ("joined" in json.dumps(pages)) is (joined == "true")
        await backend.finish("42")
        async with client.stream("GET", "/sse/operations/42?history=all") as response:
            text = "".join([part async for part in response.aiter_text()])
        # Not `splitlines`: a line of an event stream may contain U+2028.
        lines = [line for line in text.split("\n") if line.startswith("data: ")]
        found = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert text_of(found) == whole
        assert len(found) < COUNT / 4
        many = Viewer(f"ws://127.0.0.1:{two.settings.server.port}/ws")
        async with many:
            watch = {"type": "watch", "operation": "42", "history": "all"}
            await many.socket.send(json.dumps(watch))
            await many.until(type="unwatched")
        assert text_of(many.frames) == whole
        assert len(many.frames) < COUNT / 4


async def _goes_on(backend: Backend, viewer: Viewer) -> None:
    """The next token reaches it by itself."""
    new = await backend.publish("42", "append", text="next")
    frames = await viewer.until_id(new)
    assert [(frame["data"], "joined" in frame) for frame in frames] == [({"text": "next"}, False)]
