"""The pace at which connections are sent away, on a clock that the test moves."""

from __future__ import annotations

import asyncio

from tests.harness.clock import START_S, run
from tidegate.core.drain import TICK_S
from tidegate.model.settings import DrainSettings, ReplicaSettings
from tidegate.runtime.leaving import Leaving
from tidegate.web.access.limits import Connection, Door


class Inside:
    """A connection that is told to come back."""

    def __init__(self) -> None:
        self.gone_at = 0.0
        self.after_ms = -1

    def send_away(self, after_ms: int) -> None:
        self.gone_at = asyncio.get_running_loop().time() - START_S
        self.after_ms = after_ms


def crowd(door: Door, count: int) -> list[Inside]:
    inside = [Inside() for _ in range(count)]
    for connection in inside:
        as_connection: Connection = connection
        door.enter(as_connection)
    return inside


def test_closes_are_spread_over_the_window_and_the_longest_there_go_first() -> None:
    async def main() -> list[float]:
        door = Door(ReplicaSettings())
        inside = crowd(door, 100)
        await Leaving(door, DrainSettings(delay_s=2, window_s=5, absorb_per_s=1000)).drain()
        assert all(0 <= one.after_ms <= 1000 for one in inside)
        assert len({one.after_ms for one in inside}) > 10, "each has its own"
        assert len(door) == 0
        return [round(one.gone_at, 3) for one in inside]

    at = run(main())
    # Two at a tick, 50 ticks in the window, after the moment for load balancers.
    assert at == [round(2 + TICK_S * (n // 2), 3) for n in range(100)]


def test_more_than_the_others_can_absorb_are_told_to_wait_for_longer() -> None:
    async def main() -> list[Inside]:
        door = Door(ReplicaSettings())
        inside = crowd(door, 1000)
        settings = DrainSettings(delay_s=0, window_s=1, absorb_per_s=10)
        await Leaving(door, settings).drain()
        return inside

    inside = run(main())
    assert max(one.after_ms for one in inside) > 50_000
    assert max(one.gone_at for one in inside) < 1


def test_nobody_comes_in_after_the_moment_and_a_hurry_ends_every_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door = Door(ReplicaSettings())
        inside = crowd(door, 2000)
        leaving = Leaving(door, DrainSettings(delay_s=60, window_s=60))
        draining = asyncio.create_task(leaving.drain())
        await asyncio.sleep(59)
        assert not door.is_shut
        assert door.refusal(loop.time()) is None
        await asyncio.sleep(2)
        assert door.refusal(loop.time()) == "draining"
        assert 1900 < len(door) < 2000
        began = loop.time()
        leaving.hurry()
        await draining
        assert loop.time() == began
        assert leaving.sent_away == {"drain": 2000}
        assert all(one.after_ms >= 0 for one in inside)

    run(main())


def test_one_who_comes_in_at_the_last_moment_is_sent_away_too() -> None:
    async def main() -> None:
        door = Door(ReplicaSettings())
        crowd(door, 2)
        leaving = Leaving(door, DrainSettings(delay_s=0, window_s=5))
        draining = asyncio.create_task(leaving.drain())
        await asyncio.sleep(0.05)
        (late,) = crowd(door, 1)
        await draining
        assert late.after_ms >= 0
        assert len(door) == 0

    run(main())


def test_some_are_shed_and_the_rest_stays() -> None:
    async def main() -> None:
        door = Door(ReplicaSettings())
        inside = crowd(door, 10)
        leaving = Leaving(door, DrainSettings())
        await leaving.shed(3, 1.0)
        assert [one.after_ms >= 0 for one in inside] == [True] * 3 + [False] * 7
        assert leaving.sent_away == {"rebalance": 3}
        assert not door.is_shut

    run(main())
