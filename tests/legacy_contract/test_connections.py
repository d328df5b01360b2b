"""Group 1: who is connected, and what a viewer is told first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from tests.harness.backend import Backend
from tests.harness.viewer import Viewer
from tests.harness.waiting import PATIENCE_S, until
from tests.legacy_contract.application import TIMEOUT_S, Application
from tests.servers.standalone import Server


async def test_connect_success(app: Application, backend: Backend) -> None:
    async def getter(operation: str) -> dict[str, Any]:
        return {
            "status": "processing",
            "operation_type": "index",
            "created_at": datetime(2026, 11, 23, tzinfo=UTC),
            "error_message": None,
        }

    app.manager.set_operation_getter(getter)
    before = [await backend.publish("42", n=n) for n in range(2)]

    async with app.watch("42") as viewer:
        state = await viewer.state()
        assert state["operation"] == "42"
        said = {
            "status": "processing",
            "operation_type": "index",
            "created_at": "2026-11-23T00:00:00+00:00",
            "error_message": None,
        }
        assert said.items() <= state["data"].items()
        assert await viewer.ids(2) == before
        sent = await app.manager.send_update("42", "progress", {"progress": 0.5})
        (frame,) = await viewer.entries(1)
        assert (frame["id"], frame["data"]) == (sent.id, {"progress": 0.5})


async def test_connect_connection_limit(app: Application, redis_server: Server) -> None:
    async with Application(redis_server.url, pod="app-2") as other:
        await limit_holds(app, other)


async def limit_holds(app: Application, second: Application) -> None:
    """B8: it is one limit, over both processes and for all who come at once."""
    viewers = [(second if n % 2 else app).watch(f"op-{n}") for n in range(25)]
    await asyncio.gather(*(viewer.__aenter__() for viewer in viewers))
    first = await asyncio.gather(*(viewer.next() for viewer in viewers))

    inside = [v for v, f in zip(viewers, first, strict=True) if f["type"] == "current_state"]
    refused = [v for v, f in zip(viewers, first, strict=True) if f["type"] == "error"]
    assert (len(inside), len(refused)) == (10, 15)
    for viewer in refused:  # B9: the reason is a frame on an open socket, then a close with a code
        assert viewer.frames[0]["data"]["code"] == "connection_limit"
        assert "10" in viewer.frames[0]["data"]["message"]
        assert (await viewer.closed()).code == 4429
    async with app.watch("op-0", user="bob") as other:
        await other.state()

    await inside[0].socket.close()

    async def is_let_in() -> bool:
        async with app.watch("op-99") as again:
            return bool((await again.next())["type"] == "current_state")

    await until(is_let_in, "its slot is free")
    for viewer in viewers:
        await viewer.socket.close()


async def test_connect_redis_reconnect_attempt(redis_server: Server) -> None:
    async with Application(redis_server.url) as app:
        await redis_server.kill()
        await app.disconnected()

        async with app.watch("42") as viewer:
            assert (await viewer.state())["data"]["status"] == "unknown"
            assert (await viewer.next())["type"] == "stale"
            await redis_server.restart()
            # B12: nobody called `startup` again, and nothing waited in a queue for it.
            await viewer.until(type="live")
            await app.connected()
            sent = await app.manager.send_update("42", "progress", {"n": 1})
            (frame,) = await viewer.entries(1)
            assert frame["id"] == sent.id


async def test_connect_without_operation_getter(app: Application, backend: Backend) -> None:
    await backend.publish("42", "progress", status="indexing")
    await backend.publish("42", "progress", n=1)

    async with app.watch("42", history="none") as viewer:
        state = await viewer.state()

    assert state["data"]["status"] == "indexing"
    assert state["history"] == {"sent": 0, "available": 2}


async def test_connect_operation_not_found(app: Application, backend: Backend) -> None:
    app.manager.set_operation_getter(lambda operation: None)

    async with app.watch("42") as viewer:
        frame = await viewer.next()
        assert (frame["type"], frame["data"]["code"]) == ("error", "not_found")
        assert frame["data"]["retry"] is False
        assert (await viewer.closed()).code == 4404

    await app.empty()
    assert not await backend.exists("42")


async def test_connect_operation_state_error(app: Application) -> None:
    def broken(operation: str) -> object:
        raise ConnectionError("the database is away")

    app.manager.set_operation_getter(broken)
    async with app.watch("42") as viewer:
        frame = await viewer.next()
        assert (frame["type"], frame["data"]["retry"]) == ("error", True)
        assert "database" not in frame["data"]["message"]  # the application's own affair
        assert (await viewer.closed()).code == 1013
    await app.empty()

    app.manager.set_operation_getter(lambda operation: {"status": "processing"})
    async with app.watch("42") as viewer:
        assert (await viewer.state())["data"]["status"] == "processing"


async def test_disconnect(redis_server: Server, backend: Backend) -> None:
    async with Application(redis_server.url, topic={"linger_s": 0}) as app:
        async with app.watch("42") as viewer, app.watch("42") as other:
            await viewer.state()
            await other.state()
            assert app.connections("ann") == 2
            await viewer.socket.close()
            await until(lambda: app.connections("ann") == 1)
            await backend.publish("42", n=1)
            await other.entries(1)

        await app.empty()
        await until(lambda: app.channel("42") is None, "the operation is dropped")


async def test_disconnect_no_connections(app: Application) -> None:
    async with Viewer(f"ws://127.0.0.1:{app.port}/stray") as stray, asyncio.timeout(PATIENCE_S):
        assert await stray.socket.recv() == '{"type":"disconnected"}'

    async with app.watch("42") as viewer:
        await viewer.state()


async def test_disconnect_partial_cleanup(app: Application) -> None:
    async with app.watch("42") as viewer:
        await viewer.state()
        # The engine ends first: endpoints disconnect from a manager that has forgotten them.
        await app.manager.shutdown()
        _, close = await viewer.rest()
        assert close.code == 1012
    await app.empty()

    assert await app.manager.startup(patience_s=TIMEOUT_S)
    async with app.watch("42") as viewer:
        await viewer.state()
        assert app.connections("ann") == 1
