"""Turns that are shared between users: what each gets, and that none is lost."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.concurrency.fair_turns import FairConcurrencyLimiter


class Work:
    """Tasks that hold a turn until told to end."""

    def __init__(self, turns: FairConcurrencyLimiter) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: dict[str, list[asyncio.Event]] = {}

    def begin(self, user: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self._hold(user))
        self.tasks.append(task)
        return task

    async def _hold(self, user: str) -> None:
        async with self.turns.turn(user):
            self.order.append(user)
            end = asyncio.Event()
            self._ends.setdefault(user, []).append(end)
            await end.wait()

    async def end(self, user: str) -> None:
        self._ends[user].pop(0).set()
        await settled()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled() -> None:
    """Everybody who can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_32_slow_requests_of_one_user_had_all_turns() -> None:
    turns = FairConcurrencyLimiter(32, 8)
    work = Work(turns)
    for _ in range(32):
        _ = work.begin("mallory")
    await settled()
    assert turns.held("mallory") == 8
    _ = work.begin("ann")
    await settled()
    assert turns.held("ann") == 1
    await work.stop()
    assert turns.held("mallory") == turns.held("ann") == 0


async def test_a_free_turn_goes_to_who_has_the_fewest() -> None:
    turns = FairConcurrencyLimiter(3, 2)
    work = Work(turns)
    for user in ("a", "a", "b", "a", "b", "c"):
        _ = work.begin(user)
    await settled()
    assert work.order == ["a", "a", "b"]
    await work.end("a")
    assert work.order[3:] == ["c"]
    await work.end("c")
    assert work.order[4:] == ["b"]  # it has one as a has, and has had fewer
    await work.stop()


async def test_a_turn_that_comes_in_the_moment_of_a_cancellation_is_not_lost() -> None:
    turns = FairConcurrencyLimiter(1, 1)
    work = Work(turns)
    _ = work.begin("a")
    waiting = work.begin("b")
    await settled()
    work._ends["a"][0].set()
    await asyncio.sleep(0)  # a gives it back, and b has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    _ = work.begin("c")
    await settled()
    assert work.order[-1] == "c"
    await work.stop()


@hypothesis_settings(deadline=None, max_examples=examples(100))
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_in_whatever_order_no_turn_is_lost_or_given_twice(
    number: int, share: int, seed: int
) -> None:
    async def run() -> None:
        rng = random.Random(seed)
        turns = FairConcurrencyLimiter(number, share)
        held: dict[str, int] = {}

        async def hold(user: str) -> None:
            async with turns.turn(user):
                held[user] = held.get(user, 0) + 1
                assert held[user] <= share
                assert sum(held.values()) <= number
                try:
                    for _ in range(rng.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    held[user] -= 1

        tasks = []
        for _ in range(30):
            tasks.append(asyncio.create_task(hold(rng.choice("abc"))))
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                rng.choice(tasks).cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [found for found in results if isinstance(found, AssertionError)]
        async with asyncio.timeout(60):
            for number_of_user in range(number):  # all of them are free again
                await turns.take(f"z{number_of_user}")
        assert turns.free == 0
        assert not turns.waiting

    asyncio.run(run())
