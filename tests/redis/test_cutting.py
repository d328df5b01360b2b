"""What `cutting.lua` keeps of entries that are too large, on real servers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.servers.standalone import Server
from tidegate.model.entries import Entry, read_entry
from tidegate.model.ids import ZERO
from tidegate.redis import lua
from tidegate.redis.replies import read_page

MAX_ENTRY_BYTES = 256
#: Of one entry: what is small in it, and the end of one that could not be read through.
KEPT_MAX_BYTES = 4 * 4096
TEXTS = ["", "a", '"', "\\", '\\"', "}{][,:", '"status":"failed"', "ä\u2028\U0001f600", "x" * 900]


async def carried(
    client: Any, *entries: dict[Any, Any], most: int = MAX_ENTRY_BYTES
) -> list[Entry]:
    """These entries as a page of the stream brings them."""
    await client.delete("k")
    for fields in entries:
        await client.xadd("k", fields)
    arguments = ("-", len(entries), 64 * 1_048_576, most)
    page = read_page(await client.eval(lua.READ.text, 1, "k", *arguments), ZERO)
    for raw in page.entries:
        assert raw.fields is not None
        assert sum(map(len, raw.fields)) <= max(KEPT_MAX_BYTES, most)
    return [read_entry(ZERO, raw) for raw in page.entries]


def any_value(rng: random.Random, depth: int = 0) -> Any:
    match rng.randrange(6 if depth < 4 else 3):
        case 0:
            return rng.choice(TEXTS)
        case 1:
            return rng.choice([None, True, -1.5e300, 0, 10**30])
        case 2:
            return rng.choice(["completed", "operation_failed"])
        case 3:
            return [any_value(rng, depth + 1) for _ in range(rng.randrange(5))]
        case _:
            names = [*TEXTS[:6], "status", "type", "data", "timestamp"]
            return {rng.choice(names): any_value(rng, depth + 1) for _ in range(rng.randrange(5))}


def any_message(rng: random.Random) -> dict[str, Any]:
    data = {f"k{n}": any_value(rng) for n in range(rng.randrange(9))}
    if rng.random() < 0.7:
        data["status"] = rng.choice(["completed", "running", "odd\u2028"])
    filler = {rng.choice(["x", "y"]): "f" * 400}
    data = dict(sorted({**data, **filler}.items(), key=lambda _: rng.random()))
    message = {"data": data} if rng.random() < 0.8 else data
    message |= {"type": rng.choice(["t", "operation_failed"])} if rng.random() < 0.7 else {}
    message |= {"extra": any_value(rng)} if rng.random() < 0.5 else {}
    return dict(sorted(message.items(), key=lambda _: rng.random()))


@pytest.mark.parametrize("seed", range(4))
async def test_type_and_status_are_those_of_the_whole_message(
    any_server: Server, seed: int
) -> None:
    rng = random.Random(seed)
    messages = [any_message(rng) for _ in range(150)]
    texts = [
        json.dumps(message, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
        for message in messages
    ]
    async with any_server.client() as client:
        entries = await carried(client, *({"message": text} for text in texts))
        whole = await carried(client, *({"message": text} for text in texts), most=1_048_576)
    for text, entry, full in zip(texts, entries, whole, strict=True):
        assert (entry.type, entry.status) == (full.type, full.status), text
        assert full.is_whole
        kept = json.loads(entry.data)
        assert kept.pop("truncated") is True
        assert kept.pop("bytes") == len("message") + len(text.encode())
        kept.pop("reason")
        everything = json.loads(full.data)
        assert {name: everything[name] for name in kept} == kept, "and nothing else is changed"


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"operation_failed","data":{"status":"failed","x":"%s',
        '{"type":"operation_failed","data":{"status":"failed","x":["%s"],"y":{',
        '{"data":{"x":"%s","y":"a"b","status":"failed"},"type":"operation_failed"}',
        '{"data":{"x":tru,"y":"%s","status":"failed"},"type":"operation_failed"}',
        '{"data":{"x":"%s",},"status":"failed"},"type":"operation_failed"}',
        '{"x":"%s"x,"data":{"status":"failed"},"type":"operation_failed"}',
        '{"type":"operation_failed","data":{"x":"%s"}{,"status":"failed"}}',
    ],
)
async def test_type_and_status_of_large_broken_ones(redis_server: Server, text: str) -> None:
    async with redis_server.client() as client:
        (entry,) = await carried(client, {"message": text % ("ä" * 9_000)})
    assert (entry.type, entry.status, entry.is_whole) == ("operation_failed", "failed", False)
    assert json.loads(entry.data)["status"] == "failed"


async def test_what_needs_more_looking_than_a_call_may_do_is_read_from_both_ends(
    redis_server: Server,
) -> None:
    """Brackets and quotes without end must not stop Redis for everybody."""
    many = json.dumps([{"a": ["b"]}] * 40_000)
    head, tail = '{"data":{', '},"type":"operation_completed"}'
    ends = [
        f'{head}"status":"completed","x":{many}{tail}',
        f'{head}"x":{many},"status":"completed"{tail}',
        f'{head}"x":{json.dumps(many)},"status":"completed"{tail}',
    ]
    async with redis_server.client() as client:
        entries = await carried(client, *({"message": text} for text in ends))
    assert [(e.type, e.status) for e in entries] == [("operation_completed", "completed")] * 3


async def test_fields_beside_what_is_large(redis_server: Server) -> None:
    large = "x" * 400_000
    async with redis_server.client() as client:
        entries = await carried(
            client,
            {"blob": large, "status": "completed", "type": "note"},
            {**{f"f{n}": "x" * 500 for n in range(40)}, "status": "failed", "type": "note"},
            {"blob": large},
            {"blob": large, "message": '{"type":"operation_completed","data":{"n":1}}'},
            {"message": large},
        )
    assert [(e.type, e.status) for e in entries] == [
        ("note", "completed"),
        ("note", "failed"),
        ("malformed", None),
        ("operation_completed", None),
        ("malformed", None),
    ]
    assert [e.is_whole for e in entries] == [False, False, False, True, False]
    assert json.loads(entries[3].data) == {"n": 1}
    assert json.loads(entries[4].data)["text"] == "x" * 4096
