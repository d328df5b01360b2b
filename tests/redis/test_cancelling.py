"""Asking to cancel, on real servers: once for each run of an operation, never behind its end."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tests.harness.backend import GROUP, PREFIX, Backend
from tests.harness.fixtures import backend
from tests.harness.replica import quick_settings
from tests.servers.cluster import Cluster
from tests.servers.standalone import Server
from tidegate.core.cancelling import CancelOutcome, CancelReply
from tidegate.model.entries import RawEntry, TerminalRules, read_entry
from tidegate.model.errors import SettingsError, StreamUnusable
from tidegate.model.ids import OperationId, StreamId
from tidegate.redis import cancelling
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender
from tidegate.redis.cancelling import RedisCanceller
from tidegate.redis.log import RedisLog
from tidegate.redis.names import cancel_key
from tidegate.redis.topology import Topology

__all__ = ["backend"]

ONE = OperationId("42")
KEY = f"{{{PREFIX}42}}:cancel"
ENDED, AGAIN = CancelOutcome.ALREADY_ENDED, CancelOutcome.ALREADY_REQUESTED
MISSING, REQUESTED = CancelOutcome.NO_STREAM, CancelOutcome.REQUESTED


class Parts(NamedTuple):
    """What asks, and what publishers look with."""

    canceller: RedisCanceller
    appender: Appender

    async def ask(self, user: str | None = "ann") -> CancelReply:
        return await self.canceller.cancel(ONE, user=user)

    async def asked(self) -> bool:
        return await self.appender.cancel_requested(ONE)


@asynccontextmanager
async def parts(url: str, **groups: Any) -> AsyncIterator[Parts]:
    settings = quick_settings(url, **groups)
    topology = Topology(parse_address(settings.redis), settings.redis)
    appender = Appender(topology, settings.redis, settings.dispatch)
    try:
        await topology.refresh()
        log = RedisLog(topology, settings)
        yield Parts(RedisCanceller(topology, log, settings), appender)
    finally:
        await appender.close()
        await topology.close()


async def newest(backend: Backend) -> tuple[str, dict[str, Any]]:
    found: Any = await backend.client.xrevrange(PREFIX + "42", count=1)
    ((entry_id, fields),) = found
    return entry_id.decode(), json.loads(fields[b"message"])


async def test_it_is_asked_once(any_server: Server) -> None:
    async with any_server.client() as client, parts(any_server.url) as made:
        backend = Backend(client)
        await backend.publish("42", progress=0.5)
        assert not await made.asked()
        first = await made.ask()
        entry_id, message = await newest(backend)
        assert first == (REQUESTED, entry_id)
        assert message["type"] == "cancel_requested"
        assert message["data"] == {"status": "cancelling", "by": "ann"}
        assert await client.get(KEY) == entry_id.encode()
        assert 0 < await client.ttl(KEY) <= cancelling.KEY_TTL_S
        assert await made.asked()
        await backend.publish("42", progress=0.6, status="running")
        assert await made.ask("bob") == (AGAIN, entry_id)
        assert await client.xlen(PREFIX + "42") == 3
        assert await backend.groups("42") == [], "nobody watches: nothing is left for nobody"


async def test_whoever_watches_gets_it_in_the_same_step(
    redis_server: Server, backend: Backend
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        await backend.client.xgroup_create(PREFIX + "42", GROUP, "0")
        await made.ask()
        assert (await backend.groups("42"))[0]["lag"] == 0


async def test_nobody_is_named_who_is_not_known(redis_server: Server, backend: Backend) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        await made.ask(None)
        assert (await newest(backend))[1]["data"] == {"status": "cancelling"}


ENDS: list[dict[str, str]] = [
    {"message": '{"type":"operation_completed","data":{}}'},
    {"message": '{"type":"x","data":{"status":"failed"}}'},
    {"status": "cancelled"},
    {"type": "operation_failed"},
    {"message": '{"type":"x","data":{"status":"completed","n":NaN}}'},
    {"message": '{"type":"x","data":{"status":"\\u0063ompleted"}}'},
    {"message": '{"type":"operation_completed","data":{"text":"' + "x" * 300_000},
]


@pytest.mark.parametrize("fields", ENDS)
async def test_what_has_ended_is_not_cancelled(
    redis_server: Server, backend: Backend, fields: dict[str, str]
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        await backend.add("42", fields)
        assert await made.ask() == (ENDED, "")
        await backend.publish_many("42", 3, type_="log")  # words behind the end
        assert await made.ask() == (ENDED, "")
        assert await backend.client.exists(KEY) == 0


@pytest.mark.parametrize("fields", ENDS)
async def test_an_end_between_the_look_and_the_write(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        look = made.canceller._still_runs

        async def look_then_end(operation: OperationId, by: str) -> Any:
            seen = await look(operation, by)
            if await backend.client.xlen(PREFIX + "42") == 1:
                await backend.add("42", fields)
            return seen

        monkeypatch.setattr(made.canceller, "_still_runs", look_then_end)
        assert await made.ask() == (ENDED, "")
        assert await backend.client.xlen(PREFIX + "42") == 2
        assert await backend.client.exists(KEY) == 0


async def test_a_busy_operation_is_cancelled_all_the_same(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries come all the time between the look and the write, and none of them ends it."""
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        look = made.canceller._still_runs

        async def look_then_grow(operation: OperationId, by: str) -> Any:
            seen = await look(operation, by)
            await backend.publish_many("42", cancelling.NEWER_MAX)
            return seen

        monkeypatch.setattr(made.canceller, "_still_runs", look_then_grow)
        assert (await made.ask()).outcome is REQUESTED


async def test_one_that_perhaps_ends_all_the_time(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        look = made.canceller._still_runs
        looks = 0

        async def look_then_grow(operation: OperationId, by: str) -> Any:
            nonlocal looks
            looks += 1
            seen = await look(operation, by)
            await backend.publish("42", message="3 of 9 files completed")
            return seen

        monkeypatch.setattr(made.canceller, "_still_runs", look_then_grow)
        assert await made.ask() == (CancelOutcome.BUSY, "")
        assert looks == cancelling.TRIES
        assert await backend.client.exists(KEY) == 0


async def test_many_at_once_are_one_request(redis_server: Server, backend: Backend) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        replies = await asyncio.gather(*(made.ask(f"user-{n}") for n in range(20)))
        outcomes = [reply.outcome for reply in replies]
        assert (outcomes.count(REQUESTED), outcomes.count(AGAIN)) == (1, 19)
        assert len({reply.entry_id for reply in replies}) == 1
        assert await backend.client.xlen(PREFIX + "42") == 2


async def test_what_is_not_there(redis_server: Server, backend: Backend) -> None:
    async with parts(redis_server.url) as made:
        await backend.client.set(KEY, "1-1")  # of an earlier run
        assert await made.ask() == (MISSING, "")
        assert not await made.asked()
        assert await backend.client.exists(PREFIX + "42") == 0
        await backend.client.set(PREFIX + "42", "a text")
        with pytest.raises(StreamUnusable):
            await made.ask()


async def _ended_by_a_plain_xadd(backend: Backend) -> None:
    await backend.finish("42", "cancelled")
    await backend.publish("42", "operation_started", status="running")


async def _made_anew(backend: Backend) -> None:
    await backend.delete("42")
    await backend.publish("42", "operation_started", status="running")


@pytest.mark.parametrize("anew", [_ended_by_a_plain_xadd, _made_anew])
async def test_the_request_of_an_earlier_run_counts_for_nothing(
    redis_server: Server, backend: Backend, anew: Any
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        first = await made.ask()
        await anew(backend)
        assert await backend.client.get(KEY) == first.entry_id.encode(), "the key is left"
        assert not await made.asked()
        again = await made.ask()
        assert again.outcome is REQUESTED
        assert again.entry_id != first.entry_id
        assert await made.asked()


async def test_a_request_survives_that_its_entry_is_trimmed(
    redis_server: Server, backend: Backend
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        first = await made.ask()
        await backend.publish_many("42", 10)
        await backend.trim("42", 3)
        assert await made.asked()
        assert await made.ask() == (AGAIN, first.entry_id)


@pytest.mark.parametrize("value", ["", "no id", "1-1 ", "99999999999999999999999-1", "{}"])
async def test_a_key_that_holds_something_else(
    redis_server: Server, backend: Backend, value: str
) -> None:
    async with parts(redis_server.url) as made:
        await backend.publish("42")
        await backend.client.set(KEY, value)
        assert not await made.asked()
        assert (await made.ask()).outcome is REQUESTED
        await backend.client.delete(KEY)
        await backend.client.rpush(KEY, "a list")
        assert not await made.asked()


async def test_publishers_and_a_removal_take_the_key_along(
    redis_server: Server, backend: Backend
) -> None:
    async with parts(redis_server.url) as made:
        ways: list[dict[str, Any]] = [{"ends": True}, {"remove": True}]
        for ends in ways:
            await backend.publish("42")
            assert (await made.ask()).outcome is REQUESTED
            await made.appender.append(ONE, [b'{"type":"log"}'])
            assert await made.asked()
            await made.appender.append(ONE, [b'{"data":{"status":"failed"}}'], **ends)
            assert await backend.client.exists(KEY) == 0
            await backend.client.delete(PREFIX + "42")


TYPES: list[object] = ["progress", "operation_completed", "operation_started", "completed", 7, None]
STATUSES: list[object] = ["failed", "running", "fail", "operation_failed", 7, None, ["failed"]]


def forms(type_: object, status: object) -> Iterator[dict[str, str]]:
    """An entry that says so, in the ways in which a backend may write it."""
    data = {} if status is None else {"status": status}
    told = {} if type_ is None else {"type": type_}
    yield {"message": json.dumps(told | {"data": data | {"text": "completed, failed"}})}
    yield {"message": json.dumps(told | data), "other": "operation_failed"}
    yield {"message": json.dumps(told | {"data": [data]})}
    if all(isinstance(one, str) for one in (*told.values(), *data.values())):
        yield {"note": "cancelled", **told, **data}  # type: ignore[dict-item]


async def test_the_script_and_the_rules_agree_on_what_is_an_end(
    redis_server: Server, backend: Backend
) -> None:
    seen = set()
    async with parts(redis_server.url) as made:
        for type_, status in itertools.product(TYPES, STATUSES):
            for fields in forms(type_, status):
                await backend.client.delete(PREFIX + "42")
                await backend.add("42", {"type": "cancel_requested"}, entry_id="1-0")
                await backend.add("42", fields, entry_id="2-0")
                await backend.client.set(KEY, "1-0")
                flat = [part.encode() for pair in fields.items() for part in pair]
                entry = read_entry(StreamId(2, 0), RawEntry(b"2-0", flat))
                ends = TerminalRules().is_terminal(entry)
                assert await made.asked() is not ends, fields
                seen.add(ends)
    assert seen == {True, False}


async def test_own_words_for_the_end(redis_server: Server, backend: Backend) -> None:
    topic = {"terminal_statuses": ["fertig"], "terminal_types": ["job_over"]}
    async with parts(redis_server.url, topic=topic) as made:
        await backend.finish("42")  # means nothing here
        assert (await made.ask()).outcome is REQUESTED
        await backend.publish("42", "job_over")
        assert (await made.ask()).outcome is ENDED


async def test_on_a_cluster(cluster: Cluster) -> None:
    async with parts(cluster.url) as made:
        for name in ("42", "43", "44", "45"):
            operation = OperationId(name)
            await made.appender.append(operation, [b'{"type":"log"}'])
            assert (await made.canceller.cancel(operation)).outcome is REQUESTED
            assert await made.appender.cancel_requested(operation)
            assert (await made.canceller.cancel(operation)).outcome is AGAIN
            await made.appender.append(operation, [b'{"type":"operation_failed"}'], ends=True)
            assert (await made.canceller.cancel(operation)).outcome is ENDED


async def test_a_prefix_beside_which_no_key_fits() -> None:
    assert cancel_key("{jobs}:42") == "{jobs}:42:cancel"
    assert cancel_key("a}b:42") is None
    redis = {"key_prefix": "a}b:"}
    async with parts("redis://127.0.0.1:1", redis=redis) as made:
        assert not await made.asked()
        with pytest.raises(SettingsError, match=r"redis\.key_prefix"):
            await made.ask()
