"""Group 3: from the stream to the viewers, and what is left in Redis behind it."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.backend import GROUP, PREFIX, Backend
from tests.harness.waiting import until
from tests.legacy_contract.application import Application
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate.gateway import hub


def names_of_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_consume_updates(app: Application, backend: Backend) -> None:
    async with app.watch("42") as viewer:
        await viewer.state()
        ids = await backend.publish_many("42", 200)  # by plain XADD, as a worker would
        assert await viewer.ids(200) == ids


async def test_consume_updates_operation_completion(app: Application, backend: Backend) -> None:
    async with app.watch("42") as viewer, app.watch("43") as failing:
        await viewer.state()
        await failing.state()
        # B1: what publishers really send, and not only a `status_update`.
        await backend.finish("42", "completed")
        await app.manager.send_update("43", "update", {"status": "failed", "error": "no disk"})

        frames, close = await viewer.rest()
        assert [frame["type"] for frame in frames] == ["operation_completed"]
        assert close.code == 1000
        frames, close = await failing.rest()
        assert [frame["data"]["status"] for frame in frames] == ["failed"]
        assert close.code == 1000

    await app.empty()
    async with app.watch("42") as late:  # after the end: state, history, close; it never hangs
        assert (await late.state())["data"]["status"] == "completed"
        frames, close = await late.rest()
        assert (len(frames), close.code) == (1, 1000)


async def test_consume_updates_stream_not_exist(app: Application, backend: Backend) -> None:
    async with app.watch("42") as viewer:
        assert (await viewer.state())["data"]["status"] == "unknown"
        assert await viewer.is_quiet()
        assert not await backend.exists("42")  # watching makes no stream

        first = await backend.publish("42", n=1)
        assert await viewer.ids(1) == [first]


async def test_consume_updates_redis_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Redis at all, and nobody called `startup`: viewers wait, and leave nothing behind."""
    monkeypatch.setattr(hub, "JOIN_PATIENCE_S", 600)  # what nobody waits for ends at once
    joining = "join when Redis is back"
    async with Application(f"redis://127.0.0.1:{free_port()}/0", start=False) as app:
        async with app.watch("42") as viewer, app.watch("42") as other:
            await viewer.state()
            await viewer.until(type="stale")
            await other.state()
            viewer.vanish()
            await until(lambda: app.guests == 1)
            await other.socket.close()
        await app.empty()
        await until(lambda: joining not in names_of_tasks(), "who has left does not join")
        await app.manager.shutdown()

    assert not names_of_tasks() & {"tidegate", "feed", "embedded viewer", joining}


async def test_consume_updates_message_processing_error(app: Application, backend: Backend) -> None:
    async with app.watch("42") as viewer:
        await viewer.state()
        await backend.publish("42", n=1)
        await backend.add("42", {"message": b'{"type": "progress\xff'})
        await backend.publish("42", n=2)

        first, broken, second = await viewer.entries(3)
        assert (first["data"]["n"], second["data"]["n"]) == (1, 2)
        assert broken["type"] == "malformed"

    pending = await backend.client.xpending(PREFIX + "42", GROUP)
    assert pending["pending"] == 0  # B6


async def test_consume_updates_consumer_cleanup(redis_server: Server, backend: Backend) -> None:
    async with (
        Application(redis_server.url, topic={"linger_s": 0}) as app,
        Application(redis_server.url, pod="app-2") as other,
    ):
        await backend.publish("42", n=1)
        async with other.watch("42") as stays:
            await stays.until(type="progress")
            async with app.watch("42") as goes:
                await goes.until(type="progress")
                assert await backend.consumers("42") == ["app-1", "app-2"]
            await app.empty()

            async def left() -> bool:
                return await backend.consumers("42") == ["app-2"]

            await until(left, "the consumer of who has gone is deleted")
            await backend.publish("42", n=2)
            assert (await stays.next())["data"]["n"] == 2

        (group,) = await backend.groups("42")  # B5: one for all processes, and no more later
        assert (group["name"], group["pending"]) == (b"tidegate", 0)


async def test_consume_updates_group_creation_retry(app: Application, backend: Backend) -> None:
    async with app.watch("42") as viewer:
        await viewer.state()
        ids = [await backend.publish("42", n=0)]
        for n in range(1, 6):
            await backend.client.xgroup_destroy(PREFIX + "42", GROUP)
            ids.append(await backend.publish("42", n=n))

        assert await viewer.ids(6) == ids
        assert app.channel("42") is not None
        # A page that repairs a gap may come before the group is made again.
        await until(lambda: backend.groups("42"))
        assert [group["name"] for group in await backend.groups("42")] == [b"tidegate"]
