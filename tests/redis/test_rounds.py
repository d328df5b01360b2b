"""Streams whose moment has come, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from tests.harness.fixtures import loop_factories
from tidegate.core.arming import ArmingRules
from tidegate.model.ids import OperationId
from tidegate.redis.rounds import DueTimes
from tidegate.redis.subscription import StreamSubscription

RULES = ArmingRules(follow_after=3, follow_arm_s=1.5, follow_grace_s=0.25)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    **loop_factories(),
}


def watched(number: int) -> list[StreamSubscription]:
    return [
        StreamSubscription(OperationId("op"), b"op", Mock(), RULES, b"", channel=b"op")
        for _ in range(number)
    ]


async def act_on(
    watches: Sequence[StreamSubscription],
    delays_s: Sequence[float],
    loop: asyncio.AbstractEventLoop | None = None,
) -> list[StreamSubscription]:
    """Each is due so long from now; in what order it was acted on them."""
    acted: list[StreamSubscription] = []
    all_acted = asyncio.Event()

    def act(watch: StreamSubscription) -> None:
        acted.append(watch)
        if len(acted) == len(watches):
            all_acted.set()

    loop = loop or asyncio.get_running_loop()
    due_times, now = DueTimes(loop, act), loop.time()
    for watch, delay_s in zip(watches, delays_s, strict=True):
        watch.arming.due = now + delay_s
        due_times.add(watch)
    await all_acted.wait()
    return acted


# uvloop has another class for timers of less than half a millisecond; it does not know its time.
@pytest.mark.parametrize(
    "delays_s", [(0.0, -1.0), (0.0003, 0.0001), (0.0002, 0.05), (0.05, 0.0002)]
)
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_a_moment_may_be_now(
    new_loop: Callable[[], asyncio.AbstractEventLoop], delays_s: Sequence[float]
) -> None:
    watches = watched(len(delays_s))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        acted = runner.run(act_on(watches, delays_s))
    assert acted == sorted(watches, key=lambda watch: delays_s[watches.index(watch)])


class CountedTimers:
    """The running loop, with the timers counted that are set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.timers = 0

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers += 1
        return self._loop.call_at(when, callback)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_moments_between_two_ticks_of_the_clock_are_not_waited_for_busily(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    watches = watched(40)

    async def count_timers() -> int:
        loop: Any = CountedTimers()
        delays_s = [0.01 * (1 + number) + 0.0001 * (number % 10) for number in range(len(watches))]
        await act_on(watches, delays_s, loop)
        return int(loop.timers)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(count_timers()) <= 2 * len(watches)
