"""How a worker learns that a viewer wants it to stop: at most one look a second, and no error."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.client.conftest import Make
from tests.client.test_publishers import written
from tests.harness.backend import PREFIX, Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.rights import documented_rights
from tests.servers.standalone import Server
from tidegate import OperationCancelled, TidegateError
from tidegate.client.stopping import LOOK_EVERY_S, CancelLooks
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisSettings, RedisUrl

KEY = f"{{{PREFIX}42}}:cancel"


def test_one_look_a_second() -> None:
    looks = CancelLooks("42")
    asked = [now / 10 for now in range(31) if looks.is_due(now / 10)]
    assert asked == [0.0, 1.0, 2.0, 3.0]


def test_what_was_found_is_not_looked_for_again() -> None:
    looks = CancelLooks("42")
    looks.found = True
    assert not looks.is_due(5.0)


def test_a_failed_look_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    looks = CancelLooks("42")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            looks.failed(RedisUnavailable("gone"))
    assert [record.getMessage() for record in caplog.records] == [
        "cannot tell whether operation 42 is cancelled: gone"
    ]


def look_again(operation: Any) -> None:
    """As if a second had passed."""
    getattr(operation, "inner", operation)._looks._next_at = float("-inf")


async def test_a_viewer_stops_a_worker(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url)
    turns = 0

    async def work(url: str) -> None:
        nonlocal turns
        async with publisher.operation("42", title="Import") as operation:
            while turns < 3:
                turns += 1
                look_again(operation)
                await operation.raise_if_cancelled()
                async with plain_client(url) as client:
                    assert (await client.post("/operations/42/cancel")).status_code == 202

    async with Replica(redis_server.url) as replica:
        with pytest.raises(OperationCancelled) as caught:
            await work(f"http://127.0.0.1:{replica.settings.server.port}")
        assert caught.value.operation == "42"
        assert isinstance(caught.value, TidegateError)
        assert turns == 2
        types = [entry["type"] for entry in await written(backend)]
        assert types == ["operation_started", "cancel_requested", "operation_cancelled"]
        assert await backend.client.exists(KEY) == 0, "the next run is not meant"
        async with publisher.operation("42") as operation:
            assert not await operation.cancel_requested()


async def test_who_does_not_look_completes(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url)
    async with publisher.operation("42"):
        await backend.client.set(KEY, "1-1")
    assert [e["type"] for e in await written(backend)][-1] == "operation_completed"
    assert await backend.client.exists(KEY) == 0


async def test_looks_are_bounded(
    redis_server: Server, backend: Backend, publishers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = publishers(redis_server.url)
    looked = 0
    inner = getattr(publisher, "inner", publisher)
    look = inner.cancel_requested

    def counted(operation: str) -> Any:
        nonlocal looked
        looked += 1
        return look(operation)

    monkeypatch.setattr(inner, "cancel_requested", counted)
    monkeypatch.setattr("tidegate.client.stopping.LOOK_EVERY_S", 3600.0)
    async with publisher.operation("42") as operation:
        for _ in range(50):
            assert not await operation.cancel_requested()
        assert looked == 1
        await backend.client.set(KEY, (await written(backend))[0]["id"])
        assert not await operation.cancel_requested(), "not yet"
        look_again(operation)
        for _ in range(3):
            assert await operation.cancel_requested()
        assert looked == 2
    assert LOOK_EVERY_S == 1.0


async def test_work_goes_on_while_redis_is_away(redis_server: Server, publishers: Make) -> None:
    publisher = publishers(redis_server.url)
    came_through = False

    async def work() -> None:
        nonlocal came_through
        async with publisher.operation("42") as operation:
            await redis_server.kill()
            await operation.raise_if_cancelled()
            came_through = True

    with pytest.raises(RedisUnavailable):  # of the end, which cannot be written
        await work()
    assert came_through
    with pytest.raises(RedisUnavailable):
        await publisher.cancel_requested("42")


async def test_the_documented_rights_of_a_publisher_are_enough(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    async with redis_server.client() as client:
        rights = documented_rights("publisher")
        await client.execute_command("ACL", "SETUSER", "publisher", "on", ">pass", *rights)
    url = redis_server.url.replace("redis://", "redis://publisher:pass@")
    publisher = publishers(RedisSettings(url=RedisUrl(url)))
    async with publisher.operation("42"):
        assert not await publisher.cancel_requested("42")
        await backend.client.set(KEY, (await written(backend))[0]["id"])
        assert await publisher.cancel_requested("42")
    denied = await backend.client.execute_command("ACL", "LOG")
    assert denied == []
