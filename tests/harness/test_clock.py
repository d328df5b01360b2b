"""The clock that tests move."""

from __future__ import annotations

import asyncio
import time

import pytest
from looptime import IdleTimeoutError

from tests.harness.clock import START_S, run, settle


def test_an_hour_takes_no_time_and_timers_run_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, float]] = []
        for name, delay_s in (("hour", 3600.0), ("second", 1.0), ("minute", 60.0)):
            loop.call_later(delay_s, lambda name=name: seen.append((name, loop.time() - START_S)))  # type: ignore[misc]
        await asyncio.sleep(7200)
        return seen

    began = time.process_time()
    assert run(main()) == [("second", 1.0), ("minute", 60.0), ("hour", 3600.0)]
    assert time.process_time() - began < 60


def test_time_stands_still_while_something_can_run() -> None:
    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        rounds = 0
        loop.call_later(0.001, lambda: None)

        async def busy() -> None:
            nonlocal rounds
            for _ in range(1000):
                await asyncio.sleep(0)
                rounds += 1
                assert loop.time() == START_S

        working = asyncio.create_task(busy())
        await settle()
        assert working.done()
        return loop.time() - START_S, rounds

    passed_s, rounds = run(main())
    assert rounds == 1000
    assert passed_s <= 1e-5


def test_waiting_for_what_cannot_come_fails_at_once() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(IdleTimeoutError):
        run(main())


def test_a_timeout_that_is_due_together_with_its_work_lets_the_work_end_first() -> None:
    async def main() -> str:
        async with asyncio.timeout(10):
            await asyncio.sleep(9.999)
        return "in time"

    assert run(main()) == "in time"
