"""The pace at which connections are sent away, on a clock that the test moves."""

from __future__ import annotations

import asyncio

from tests.harness.clock import run
from tests.runtime.connections import FakeConnection, entered
from tidegate.core.drain import TICK_S
from tidegate.model.settings import DrainSettings, ReplicaSettings
from tidegate.runtime.drainer import Drainer
from tidegate.web.access.limits import ConnectionLimiter


def test_closes_are_spread_over_the_window_and_the_longest_there_go_first() -> None:
    async def main() -> list[float]:
        limiter = ConnectionLimiter(ReplicaSettings())
        inside = entered(limiter, *[0] * 100)
        await Drainer(limiter, DrainSettings(delay_s=2, window_s=5, absorb_per_s=1000)).drain()
        assert all(0 <= one.after_ms <= 1000 for one in inside)
        assert len({one.after_ms for one in inside}) > 10, "each has its own"
        assert len(limiter) == 0
        return [round(one.gone_at, 3) for one in inside]

    at = run(main())
    # Two at a tick, 50 ticks in the window, after the moment for load balancers.
    assert at == [round(2 + TICK_S * (n // 2), 3) for n in range(100)]


def test_more_than_the_others_can_absorb_are_told_to_wait_for_longer() -> None:
    async def main() -> list[FakeConnection]:
        limiter = ConnectionLimiter(ReplicaSettings())
        inside = entered(limiter, *[0] * 1000)
        settings = DrainSettings(delay_s=0, window_s=1, absorb_per_s=10)
        await Drainer(limiter, settings).drain()
        return inside

    inside = run(main())
    assert max(one.after_ms for one in inside) > 50_000
    assert max(one.gone_at for one in inside) < 1


def test_nobody_comes_in_after_the_moment_and_a_hurry_ends_every_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = ConnectionLimiter(ReplicaSettings())
        inside = entered(limiter, *[0] * 2000)
        drainer = Drainer(limiter, DrainSettings(delay_s=60, window_s=60))
        draining = asyncio.create_task(drainer.drain())
        await asyncio.sleep(59)
        assert not limiter.is_shut
        assert limiter.refusal(loop.time()) is None
        await asyncio.sleep(2)
        assert limiter.refusal(loop.time()) == "draining"
        assert 1900 < len(limiter) < 2000
        began = loop.time()
        drainer.hurry()
        await draining
        assert loop.time() == began
        assert drainer.moved == {"drain": 2000}
        assert all(one.after_ms >= 0 for one in inside)

    run(main())


def test_one_who_comes_in_at_the_last_moment_is_sent_away_too() -> None:
    async def main() -> None:
        limiter = ConnectionLimiter(ReplicaSettings())
        entered(limiter, *[0] * 2)
        drainer = Drainer(limiter, DrainSettings(delay_s=0, window_s=5))
        draining = asyncio.create_task(drainer.drain())
        await asyncio.sleep(0.05)
        (late,) = entered(limiter, *[0] * 1)
        await draining
        assert late.after_ms >= 0
        assert len(limiter) == 0

    run(main())


def test_some_are_shed_and_the_rest_stays() -> None:
    async def main() -> None:
        limiter = ConnectionLimiter(ReplicaSettings())
        inside = entered(limiter, *[0] * 10)
        drainer = Drainer(limiter, DrainSettings())
        await drainer.shed(3, 1.0)
        assert [one.after_ms >= 0 for one in inside] == [True] * 3 + [False] * 7
        assert drainer.moved == {"rebalance": 3}
        assert not limiter.is_shut

    run(main())
