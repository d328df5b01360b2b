"""How watching ends: the operation finishes, its stream expires, the replica leaves.

Part of the sender contract: every test runs over the direct and over the plain ASGI sender.
"""

import asyncio
from collections.abc import Callable

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Close
from tests.harness.waiting import until
from tests.servers.standalone import Server

FINISHED = Close(1000, "")


class Graces:
    """The timers of all channels: none is over before the test says so, however long it takes."""

    def __init__(self, replica: Replica) -> None:
        self._running: list[tuple[float, asyncio.TimerHandle]] = []
        self._services = replica.hub.services
        self._as_it_was = self._services.later
        self._services.later = self._later

    def _later(
        self, delay_s: float, action: Callable[..., None], *args: object
    ) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        timer = asyncio.TimerHandle(loop.time() + delay_s, action, args, loop)  # in no queue
        self._running.append((delay_s, timer))
        return timer

    def waits(self, delay_s: float) -> bool:
        """Whether there is one that was to wait this long."""
        return any(delay == delay_s for delay, _ in self._running)

    def let_go(self) -> None:
        """From now on time is the loop's again, also for those that are left."""
        self._services.later = self._as_it_was
        for delay_s, timer in self._running:
            self._services.later(delay_s, timer._run)

    def over(self, delay_s: float) -> None:
        """The time of those that were to wait this long; there must be one."""
        due = [timer for delay, timer in self._running if delay == delay_s]
        assert due, self._running
        self._running = [one for one in self._running if one[0] != delay_s]
        for timer in due:
            timer._run()


@pytest.mark.parametrize("status", ["completed"])
async def test_everybody_gets_the_end_and_then_1000(
    replica: Replica, backend: Backend, status: str
) -> None:
    async with replica.watch("42") as one, replica.watch("42") as two:
        for viewer in (one, two):
            await viewer.state()
        last = await backend.publish("42", "note", status=status)
        for viewer in (one, two):
            frames, close = await viewer.rest()
            assert [f["id"] for f in frames] == [last]
            assert close == FINISHED
    await until(lambda: replica.viewers == 0)


@pytest.mark.parametrize("count", [3])
async def test_who_joins_a_finished_operation_gets_state_history_1000(
    replica: Replica, backend: Backend, count: int
) -> None:
    ids = await backend.publish_many("42", count)
    ids.append(await backend.finish("42"))
    async with replica.watch("42", history="all") as viewer:
        state = await viewer.state()
        assert (state["data"]["status"], state["data"]["progress"]) == ("completed", 1)
        assert (state["cursor"], state["at"]) == ("0-0", ids[-1])
        frames, close = await viewer.rest()
        assert [f["id"] for f in frames] == ids
        assert close == FINISHED


async def test_an_expired_stream_closes_its_viewers_with_4410(
    replica: Replica, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 2)
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.until_id(ids[-1])
        await backend.delete("42")
        frames, close = await viewer.rest()
        assert [f["data"]["code"] for f in frames] == ["expired"]
        assert close.code == 4410


@pytest.mark.full
async def test_a_stream_that_is_back_in_time_closes_nobody(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    async with Replica(redis_server.url, sender=sender, topic={"expired_grace_s": 0.7}) as replica:
        graces = Graces(replica)
        old = await backend.publish_many("42", 2)
        async with (
            replica.watch("42") as viewer,
            replica.watch("42", last_event_id=old[0]) as other,
        ):
            for each in (viewer, other):
                await each.state()
                await each.until_id(old[-1])
            await backend.delete("42")
            await until(lambda: replica.channel("42").topic.vanished)  # type: ignore[union-attr]
            async with replica.watch("42", last_event_id=old[1]) as waiting:
                await waiting.state()
                new = await backend.publish("42")
                for each in (viewer, other, waiting):
                    gap = await each.next()
                    assert gap["data"]["reason"] == "recreated"
                    assert await each.ids(1) == [new]
                graces.over(0.7)
                for each in (viewer, other, waiting):
                    assert await each.is_quiet(), "the grace is over and nobody was closed"


async def test_a_replica_that_stops_sends_its_viewers_away(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    replica = await Replica(redis_server.url, sender=sender).start()
    await backend.publish("42")
    async with replica.watch("42") as viewer, replica.watch("7") as other:
        await viewer.state()
        await viewer.entries(1)
        await other.state()
        stopping = asyncio.create_task(replica.stop())
        delays = []
        for each in (viewer, other):
            frames, close = await each.rest()
            assert [f["type"] for f in frames] == ["reconnect"]
            assert frames[0]["data"]["reason"] == "draining"
            delays.append(frames[0]["data"]["after_ms"])
            assert close.code == 1012
        await stopping
    assert all(isinstance(delay, int) and 0 <= delay <= 2000 for delay in delays)
    assert await backend.consumers("42") == []
