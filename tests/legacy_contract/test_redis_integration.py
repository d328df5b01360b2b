"""Group 2: starting with and without Redis, and where an update goes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import quick_settings
from tests.harness.waiting import until
from tests.legacy_contract.application import TIMEOUT_S, Application
from tests.servers import binaries
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate.embed import RedisStreamWebSocketManager, Stored, websockets
from tidegate.model.errors import InvalidInput, InvalidOperationId


async def test_startup_success(redis_server: Server, backend: Backend) -> None:
    manager = RedisStreamWebSocketManager(settings=quick_settings(redis_server.url))
    try:
        assert await manager.startup(patience_s=TIMEOUT_S) is True
        sent = await manager.send_update("42", "progress", {})
        assert sent.stored is Stored.YES
    finally:
        await manager.shutdown()


async def test_startup_retry_logic() -> None:
    """A port where every connection is dropped, until a real server takes it."""
    port = free_port()
    attempts: list[float] = []

    def drop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(time.monotonic())
        writer.close()

    listener = await asyncio.start_server(drop, "127.0.0.1", port)
    settings = quick_settings(
        f"redis://127.0.0.1:{port}/0", redis={"backoff_min_s": 0.02, "backoff_max_s": 5}
    )
    manager = RedisStreamWebSocketManager(settings=settings)
    try:
        starting = asyncio.create_task(manager.startup(patience_s=20))
        # Three look for Redis (feed, lease, control), so one of them for the seventh time by then,
        # and behind six waits: 0.02 s, doubled each time, and half of it with the least jitter.
        # Without doubling it would be a third of that with the greatest jitter.
        await until(lambda: len(attempts) >= 3 * 6 + 1, "seven attempts of one of them")
        assert attempts[3 * 6] - attempts[0] >= 0.02 * (2**6 - 1) / 2, attempts
        listener.close()
        await listener.wait_closed()
        async with Server(binaries.embedded(), port=port):
            assert await starting is True
            assert (await manager.send_update("42", "progress", {})).stored is Stored.YES
            await manager.shutdown()
    finally:
        listener.close()
        await manager.shutdown()


async def test_startup_graceful_degradation() -> None:
    port = free_port()
    async with Application(f"redis://127.0.0.1:{port}/0", start=False) as app:
        assert await app.manager.startup(patience_s=0.2) is False

        async with app.watch("42") as viewer:
            assert (await viewer.state())["data"]["status"] == "unknown"
            stale = await viewer.next()
            assert (stale["type"], "since" in stale["data"]) == ("stale", True)
            # Redis comes for the first time, long after the start: no restart is needed.
            async with Server(binaries.embedded(), port=port):
                await viewer.until(type="live")
                await app.connected()
                sent = await app.manager.send_update("42", "progress", {"n": 1})
                assert sent.stored is Stored.YES
                assert await viewer.ids(1) == [sent.id]
                await app.manager.shutdown()


async def test_startup_idempotency(app: Application, backend: Backend) -> None:
    engine = app.engine

    starting = (app.manager.startup(patience_s=TIMEOUT_S) for _ in range(5))
    assert all(await asyncio.gather(*starting))
    assert await app.manager.startup()

    assert app.engine is engine
    names = [client["name"] for client in await backend.client.client_list()]
    assert names.count("tidegate:app-1") == 1
    await app.manager.shutdown()
    await app.manager.shutdown()
    assert await app.manager.startup(patience_s=TIMEOUT_S)
    assert app.engine is not engine


async def test_send_operation_update_with_redis(app: Application, backend: Backend) -> None:
    async with (
        Application(app.settings.redis.url.get_secret_value(), pod="app-2") as elsewhere,
        app.watch("42") as here,
        elsewhere.watch("42") as there,
    ):
        await here.state()
        await there.state()
        sent = await app.manager.send_update(
            "42", "progress", {"progress": 0.25, "text": "ä\u2028"}
        )
        for viewer in (here, there):
            (frame,) = await viewer.entries(1)
            assert frame["id"] == sent.id
            assert frame["data"] == {"progress": 0.25, "text": "ä\u2028"}

    assert sent == (Stored.YES, sent.id, 0, None)
    entries: Any = await backend.client.xrange(PREFIX + "42")
    ((_, fields),) = entries
    stored = json.loads(fields[b"message"])
    assert sorted(stored) == ["data", "timestamp", "type"]
    assert list(fields) == [b"message"]
    # B16: set with the entry, not after it.
    assert 86_000 < await backend.client.ttl(PREFIX + "42") <= 86_400

    with pytest.raises(InvalidOperationId):
        await app.manager.send_update("4*", "progress", {})
    with pytest.raises(InvalidInput):
        await app.manager.send_update("42", "progress", {"no JSON": object()})


async def test_send_operation_update_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    # That it is refused has to be told in this time; else nobody knows whether it is stored.
    monkeypatch.setattr(websockets, "AWAY_PATIENCE_S", 20)
    async with Application(f"redis://127.0.0.1:{free_port()}/0", start=False) as app:
        assert not await app.manager.startup(patience_s=0.1)
        async with app.watch("42") as viewer, app.watch("421") as other:
            for watching in (viewer, other):
                await watching.state()
                await watching.until(type="stale")

            sent = await app.manager.send_update("42", "progress", {"progress": 0.5})

            assert (sent.stored, sent.id, sent.local_viewers) == (Stored.NO, None, 1)
            assert sent.reason
            frame = await viewer.next()
            assert "id" not in frame  # it is in no stream, so nobody can resume from it
            assert (frame["type"], frame["data"]) == ("progress", {"progress": 0.5})
            assert await other.is_quiet()


async def test_send_update_redis_error(redis_server: Server) -> None:
    async with (
        Application(redis_server.url) as app,
        redis_server.client() as client,
        app.watch("42") as viewer,
    ):
        await viewer.state()

        # It answers, and refuses: nothing was written.
        await client.config_set("maxmemory", 1)
        sent = await app.manager.send_update("42", "progress", {"n": 1})
        assert (sent.stored, sent.local_viewers) == (Stored.NO, 1)
        assert "memory" in (sent.reason or "")
        assert (await viewer.next())["data"] == {"n": 1}
        await client.config_set("maxmemory", 0)
        assert (await app.manager.send_update("42", "progress", {"n": 2})).stored is Stored.YES
        assert (await viewer.next())["data"] == {"n": 2}

        # It dies. What happened to a write in that moment nobody can tell.
        await redis_server.kill()
        sent = await app.manager.send_update("42", "progress", {"n": 3})
        assert sent.stored is not Stored.YES
        assert (await viewer.until(type="progress"))["data"] == {"n": 3}

        await redis_server.restart()
        await app.connected()
        sent = await app.manager.send_update("42", "progress", {"n": 4})
        assert sent.stored is Stored.YES
        await viewer.until(id=sent.id)
        # This server kept nothing on disk, so it is another log, and the viewer was told.
        assert "gap" in [frame["type"] for frame in viewer.frames]
