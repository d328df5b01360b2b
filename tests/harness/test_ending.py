"""Tasks that are cancelled end, also those that lose a cancellation or two."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.ending import ended


async def _losing(cancellations: int) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancellations -= 1
            if cancellations < 0:
                raise


async def _failing() -> None:
    raise ValueError("its own matter")


async def test_all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.ending.AGAIN_S", 0.01)
    tasks = [asyncio.create_task(_losing(times)) for times in (0, 1, 3)]
    tasks.append(asyncio.create_task(_failing()))
    await asyncio.sleep(0)
    await ended(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, True, False]
    await ended([])


async def test_what_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.ending.AGAIN_S", 0.001)
    task = asyncio.create_task(_losing(1000), name="deaf")
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="deaf"):
        await ended([task], within_s=0.02)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
