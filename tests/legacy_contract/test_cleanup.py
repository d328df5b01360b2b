"""Group 5: the end of an operation, of its stream, and of the application."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.harness.backend import Backend
from tests.harness.waiting import PATIENCE_S, until
from tests.legacy_contract.application import Application
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate.embed import Stored


async def test_shutdown(app: Application, backend: Backend) -> None:
    await backend.publish("42", n=1)
    async with app.watch("42") as viewer, app.watch("43") as other:
        await viewer.until(type="progress")
        await other.state()

        await app.manager.shutdown()

        for watching in (viewer, other):  # B10: a code that says "come back", and when
            (frame,), close = await watching.rest()
            assert frame["type"] == "reconnect"
            assert frame["data"]["reason"] == "draining"
            assert 0 <= frame["data"]["after_ms"] < 2000
            assert close.code == 1012
    await app.empty()
    assert await backend.consumers("42") == []
    names = [client["name"] for client in await backend.client.client_list()]
    assert "tidegate:app-1" not in names


async def test_shutdown_with_errors(redis_server: Server, backend: Backend) -> None:
    patient = {"reply_timeout_s": 30}
    async with Application(
        redis_server.url, redis=patient, server={"shutdown_timeout_s": 3}
    ) as app:
        stuck = await app.raw("42")
        with stuck:
            async with app.watch("42") as viewer:
                await viewer.state()
                ids = await backend.publish_many("42", 200, pad=10_000)
                await viewer.until_id(ids[-1])
                await redis_server.kill()

                began = time.monotonic()
                await app.manager.shutdown()

                assert time.monotonic() - began < 10, "neither for the stuck one, nor for Redis"
                _, close = await viewer.rest()
                assert close.code == 1012
        await app.empty()


async def test_cleanup_operation_stream(app: Application, backend: Backend) -> None:
    async with app.watch("42") as viewer:
        await viewer.state()
        await backend.publish("42", n=1)
        await app.manager.send_update("42", "operation_completed", {})
        assert await app.manager.cleanup_operation_stream("42") is True
        assert not await backend.exists("42")
        # Who was there sees the end as it was.
        frames, close = await viewer.rest()
        assert [frame["type"] for frame in frames] == ["progress", "operation_completed"]
        assert close.code == 1000

    assert await app.manager.cleanup_operation_stream("42") is True  # again is no error
    await backend.publish("43", n=1)
    async with app.watch("43") as running:
        await running.until(type="progress")
        await app.manager.cleanup_operation_stream("43")
        (frame,), close = await running.rest()  # it did not end: its log is gone, and that is said
        assert (frame["type"], frame["data"]["code"]) == ("error", "expired")
        assert close.code == 4410


async def test_cleanup_stream_error_handling(redis_server: Server, backend: Backend) -> None:
    async with Application(redis_server.url) as app:
        await backend.publish("42", n=1)
        await redis_server.kill()
        assert await app.manager.cleanup_operation_stream("42") is False
        await redis_server.restart()
        await app.connected()
        assert await app.manager.cleanup_operation_stream("42") is True


async def test_cleanup_operation_stream_without_redis() -> None:
    async with Application(f"redis://127.0.0.1:{free_port()}/0", start=False) as app:
        assert not await app.manager.startup(patience_s=0.05)
        assert await app.manager.cleanup_operation_stream("42") is False


async def test_close_connections(app: Application, backend: Backend) -> None:
    async with (
        app.watch("42", user="ann") as first,
        app.watch("42", user="bob") as second,
        app.watch("421") as other,
    ):
        for viewer in (first, second, other):
            await viewer.state()

        assert await app.manager.close_connections("42") == 2

        assert (await first.closed()).code == (await second.closed()).code == 1000
        await until(lambda: app.guests == 1)
        await backend.publish("421", n=1)
        assert len(await other.ids(1)) == 1
    assert await app.manager.close_connections("42") == 0


@pytest.mark.parametrize("away", [False, True])
async def test_close_connections_error_handling(
    redis_server: Server, backend: Backend, away: bool
) -> None:
    async with Application(redis_server.url) as app:
        stuck = await app.raw("42")
        with stuck:
            async with app.watch("42") as viewer, app.watch("42") as dying:
                await viewer.state()
                await dying.state()
                ids = await backend.publish_many("42", 200, pad=10_000)
                await viewer.until_id(ids[-1])
                if away:
                    await redis_server.kill()
                dying.vanish()

                async with asyncio.timeout(PATIENCE_S):
                    assert await app.manager.close_connections("42") in (2, 3)
                _, close = await viewer.rest()
                assert close.code == 1000
        await app.empty()
        if not away:
            assert (await app.manager.send_update("42", "x", {})).stored is Stored.YES
