"""Group 4: one entry to many viewers, and history before the live frames."""

from __future__ import annotations

import asyncio

from tests.harness.backend import PREFIX, Backend
from tests.harness.waiting import until
from tests.legacy_contract.application import Application
from tests.servers.standalone import Server


async def test_broadcast(app: Application, backend: Backend) -> None:
    async with (
        app.watch("12", user="ann") as first,
        app.watch("12", user="bob") as second,
        app.watch("123", user="ann") as longer,
        app.watch("1", user="12") as shorter,
    ):
        viewers = (first, second, longer, shorter)
        for viewer in viewers:
            await viewer.state()

        entry = await backend.publish("12", n=1)

        assert await first.ids(1) == await second.ids(1) == [entry]
        # B7: neither an id that begins alike nor a user of that name is the operation.
        assert await longer.is_quiet()
        assert await shorter.is_quiet()


async def test_broadcast_handles_disconnected_clients(app: Application, backend: Backend) -> None:
    stuck = await app.raw("42")  # reads nothing from here on (B11)
    with stuck:
        async with app.watch("42") as viewer, app.watch("42") as dying:
            await viewer.state()
            await dying.state()
            dying.vanish()

            ids = await backend.publish_many("42", 300, pad=10_000, type_="chunk")

            async with asyncio.timeout(10):
                assert await viewer.ids(300) == ids
            await until(lambda: app.connections("ann") == 2, "the dead one's slot is free")
            channel = app.channel("42")
            assert channel is not None

            def one_of_each() -> bool:
                stats = channel.stats()
                return (stats.live, stats.lagging + stats.catching_up) == (1, 1)

            # So many bytes at once may make the good one lag, too: until it has read all of them.
            await until(one_of_each, "the good one is live, the stuck one is not")


async def test_send_history(app: Application, backend: Backend) -> None:
    ids = await backend.publish_many("42", 150)

    async with app.watch("42") as viewer:
        state = await viewer.state()
        assert state["history"] == {"sent": 100, "available": 150}
        publishing = asyncio.create_task(backend.publish_many("42", 50, start=150))
        seen = await viewer.ids(150)
        # B2: the newest hundred. B3: then live, each once and in order.
        assert seen == ids[50:] + await publishing

    async with app.watch("42", last_event_id=seen[-3]) as back:
        await back.state()
        assert await back.ids(2) == seen[-2:]


async def test_send_history_error_handling(redis_server: Server, backend: Backend) -> None:
    ids = await backend.publish_many("42", 400)  # more than the ring keeps
    async with Application(redis_server.url) as app, app.watch("42", history="none") as first:
        await first.state()
        redis_server.pause()
        async with app.watch("42", history="all") as viewer:
            assert await viewer.is_quiet()  # its history cannot be read; it is not sent half of it
            redis_server.resume()
            assert (await viewer.state())["history"]["available"] == 400
            assert await viewer.ids(400) == ids

        await backend.client.set(PREFIX + "text", "no stream")
        async with app.watch("text") as refused:
            assert (await refused.next())["type"] == "error"
            assert (await refused.closed()).code == 4404
        await first.socket.close()
        await app.empty()


async def test_send_history_message_error(app: Application, backend: Backend) -> None:
    await backend.publish("42", n=1)
    await backend.add("42", {"message": "{"})
    await backend.add("42", {"message": '{"type": 7}'})
    await backend.publish("42", n=2)

    async with app.watch("42") as viewer:
        await viewer.state()
        types = [frame["type"] for frame in await viewer.entries(4)]
        assert types == ["progress", "malformed", "malformed", "progress"]
