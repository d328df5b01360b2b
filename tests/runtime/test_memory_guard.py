"""What a replica does as its container's memory is used up."""

from __future__ import annotations

from tests.runtime.connections import entered
from tidegate.core.memory_pressure import MemoryLevel
from tidegate.model import close_codes
from tidegate.model.settings import ReplicaSettings
from tidegate.runtime.memory_guard import MemoryGuard
from tidegate.web.access.limits import ConnectionLimiter

MIB = 1_048_576


class Memory:
    limit_bytes = 256 * MIB

    def __init__(self) -> None:
        self.used: int | None = 0

    def used_bytes(self) -> int | None:
        return self.used


class History:
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def drop_history(self) -> int:
        size, self.size_bytes = self.size_bytes, 0
        return size


async def test_each_level_does_more() -> None:
    memory, history = Memory(), History(10 * MIB)
    limiter = ConnectionLimiter(ReplicaSettings())
    viewers = entered(limiter, 0, 20 * MIB, 1 * MIB, 50 * MIB)
    guard = MemoryGuard(memory, limiter, history, "pod")

    memory.used = 100 * MIB
    guard.look()
    assert (guard.level, limiter.refusal(0)) == (MemoryLevel.NORMAL, None)

    memory.used = 206 * MIB
    guard.look()
    assert (guard.level, history.size_bytes) == (MemoryLevel.DROPPING, 0)
    assert limiter.refusal(0) is None, "what was dropped may be enough"

    memory.used = 219 * MIB
    guard.look()
    assert (guard.level, limiter.refusal(0)) == (MemoryLevel.REFUSING, "memory")
    assert not any(viewer.aborted for viewer in viewers)

    memory.used = 250 * MIB
    guard.look()
    assert guard.level is MemoryLevel.CLOSING
    assert [viewer.aborted for viewer in viewers] == [None, None, None, close_codes.SLOW]
    assert guard.closed == 1, "no more than need be, those with most unsent data first"

    memory.used = 100 * MIB
    guard.look()
    assert (guard.level, limiter.refusal(0)) == (MemoryLevel.NORMAL, None)
    assert limiter.refusals == {"memory": 1}


async def test_at_a_level_that_stays_it_waits_before_it_acts_again() -> None:
    memory, history = Memory(), History(0)
    limiter = ConnectionLimiter(ReplicaSettings())
    viewers = entered(limiter, *[1 * MIB] * 100)
    guard = MemoryGuard(memory, limiter, history, "pod")
    memory.used = 256 * MIB
    guard.look()
    closed = guard.closed
    assert 30 < closed < 50
    for _ in range(5):
        guard.look()
    assert guard.closed == closed == sum(1 for viewer in viewers if viewer.aborted)


async def test_at_a_level_that_stays_it_acts_again_once_use_has_grown() -> None:
    memory, history = Memory(), History(0)
    guard = MemoryGuard(memory, ConnectionLimiter(ReplicaSettings()), history, "pod")
    memory.used = 206 * MIB
    guard.look()
    memory.used, history.size_bytes = 200 * MIB, 7 * MIB
    guard.look()
    assert guard.level is MemoryLevel.DROPPING
    assert history.size_bytes == 7 * MIB, "what was dropped must be collected first"
    memory.used = 206 * MIB
    guard.look()
    assert history.size_bytes == 0


async def test_use_that_cannot_be_told_changes_nothing() -> None:
    memory, limiter = Memory(), ConnectionLimiter(ReplicaSettings())
    guard = MemoryGuard(memory, limiter, History(0), "pod")
    memory.used = 206 * MIB
    guard.look()
    memory.used = None
    guard.look()
    assert guard.level is MemoryLevel.DROPPING


async def test_without_a_limit_nothing_is_done() -> None:
    limiter = ConnectionLimiter(ReplicaSettings())
    guard = MemoryGuard(None, limiter, History(1), "pod")
    guard.start()
    guard.look()
    guard.stop()
    assert (guard.level, guard.limit_bytes, limiter.refusal(0)) == (MemoryLevel.NORMAL, 0, None)
