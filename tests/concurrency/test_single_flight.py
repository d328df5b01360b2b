"""Kept answers: how long, how many, and one question at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.web.auth.clock import Clock
from tidegate.concurrency.single_flight import SingleFlightCache


class Question:
    """Counts how often it is asked; answers when it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.going = asyncio.Event()
        self.fails: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        await self.going.wait()
        if self.fails is not None:
            raise self.fails
        return number


def holds(seconds: float) -> Callable[[int], float]:
    return lambda _: seconds


async def test_an_answer_holds_for_its_time() -> None:
    clock, question = Clock(), Question()
    answers: SingleFlightCache[int] = SingleFlightCache(10, clock)
    question.going.set()
    assert await answers.get("a", question, holds(5)) == 1
    clock.now += 4.9
    assert await answers.get("a", question, holds(5)) == 1
    clock.now += 0.1
    assert await answers.get("a", question, holds(5)) == 2
    assert await answers.get("b", question, holds(0)) == 3
    assert await answers.get("b", question, holds(0)) == 4
    assert len(answers) == 1


async def test_the_oldest_give_way() -> None:
    answers: SingleFlightCache[int] = SingleFlightCache(3, Clock())
    question = Question()
    question.going.set()
    for key in range(1000):
        await answers.get(key, question, holds(60))
    assert len(answers) == 3
    assert await answers.get(999, question, holds(60)) == 1000
    assert await answers.get(0, question, holds(60)) == 1001


async def test_those_who_ask_at_the_same_time_share_one_answer() -> None:
    answers: SingleFlightCache[int] = SingleFlightCache(10, Clock())
    question = Question()
    asking = [asyncio.create_task(answers.get("a", question, holds(0))) for _ in range(20)]
    await asyncio.sleep(0)
    question.going.set()
    assert set(await asyncio.gather(*asking)) == {1}


async def test_a_failure_is_shared_and_not_kept() -> None:
    answers: SingleFlightCache[int] = SingleFlightCache(10, Clock())
    question = Question()
    question.fails = LookupError("no")
    asking = [asyncio.create_task(answers.get("a", question, holds(60))) for _ in range(5)]
    await asyncio.sleep(0)
    question.going.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(result) for result in results} == {LookupError}
    assert question.asked == 1
    question.fails = None
    assert await answers.get("a", question, holds(60)) == 2


async def test_when_the_one_who_asked_goes_away_the_next_one_asks() -> None:
    answers: SingleFlightCache[int] = SingleFlightCache(10, Clock())
    question = Question()
    first, second, third = (
        asyncio.create_task(answers.get("a", question, holds(60))) for _ in range(3)
    )
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third.cancel()
    question.going.set()
    assert await second == 2
    assert question.asked == 2
    with pytest.raises(asyncio.CancelledError):
        await third
