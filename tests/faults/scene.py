"""What short scenarios need: a few replicas, viewers that run for a while, and one assertion."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.faults.judge import Got, Written, judge
from tests.faults.replicas import Replica
from tests.faults.viewer import Lag, Viewer
from tests.harness.ending import ended

END_S = 30.0
#: A scenario that hangs fails with the line where it hangs.
SCENE_S = 200.0


@asynccontextmanager
async def gateway(
    redis_url: str, count: int, settings: Mapping[str, object] | None = None
) -> AsyncIterator[list[Replica]]:
    """Running replicas. At the end their logs must hold no traceback."""
    async with asyncio.timeout(SCENE_S), AsyncExitStack() as stack:
        replicas = [Replica(index, redis_url, settings) for index in range(count)]
        for replica in replicas:
            stack.callback(replica.close)
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield replicas
        mishaps = [mishap for replica in replicas for mishap in replica.mishaps()]
        assert not mishaps, "\n".join(mishaps)


class Audience:
    """Viewers of one operation, each a task."""

    def __init__(self, operation: str, replicas: Sequence[Replica]) -> None:
        self.operation = operation
        self.viewers: list[Viewer] = []
        self._replicas = replicas
        self._tasks: list[asyncio.Task[None]] = []

    async def join(
        self,
        *,
        at: Sequence[int] | None = None,
        history: str | None = "all",
        lags: Sequence[Lag] = (),
    ) -> list[Viewer]:
        """One viewer of each replica in `at` (None: all); returns when each has its state.

        Each tries its own replica first and the others after a loss.
        """
        joined = []
        for index in range(len(self._replicas)) if at is None else at:
            addresses = [replica.address for replica in self._replicas]
            name = f"{self.operation}/{len(self.viewers)}"
            rng = random.Random(name)
            viewer = Viewer(
                name, self.operation, addresses, rng=rng, history=history, lags=lags, first=index
            )
            self.viewers.append(viewer)
            self._tasks.append(asyncio.get_running_loop().create_task(viewer.run(), name=name))
            joined.append(viewer)
        async with asyncio.timeout(END_S):
            for viewer in joined:
                await viewer.events(2)
        return joined

    async def have(self, number: int) -> None:
        """Wait until every viewer has this entry. TimeoutError tells who has not."""
        for viewer in self.viewers:
            await viewer.entry(number, END_S)

    async def end(self, *logs: Sequence[Written], gaps: Collection[str] = ()) -> None:
        """All must come to their end, and nothing may be wrong; `gaps`: reasons to be expected."""
        try:
            async with asyncio.timeout(END_S):
                for viewer in self.viewers:
                    await viewer.ended.wait()
        except TimeoutError:
            pass  # the judge tells who has not
        wrong = []
        for viewer in self.viewers:
            for complaint in judge(viewer.record, logs, viewer.rules).complaints:
                near = viewer.record[max(0, complaint.event - 3) : complaint.event + 2]
                wrong.append(f"{viewer.name}: {complaint}\n  {near}\n  {dict(viewer.said)}")
            needless = [gap for gap in viewer.gaps() if gap.reason not in gaps]
            wrong += [f"{viewer.name}: needless {gap}" for gap in needless]
        assert not wrong, "\n".join(wrong)

    async def close(self) -> None:
        await ended(self._tasks)


@asynccontextmanager
async def audience(operation: str, replicas: Sequence[Replica]) -> AsyncIterator[Audience]:
    """Nobody yet: `join`."""
    crowd = Audience(operation, replicas)
    try:
        yield crowd
    finally:
        await crowd.close()


def with_ghosts(log: Sequence[Written], viewers: Sequence[Viewer]) -> list[Written]:
    """The log, and what viewers saw of it before a failover lost it: both are right.

    Only entries whose number is nowhere in the log are ghosts; any other is for the judge.
    """
    numbers = {entry.number for entry in log}
    seen = (event for viewer in viewers for event in viewer.record if isinstance(event, Got))
    ghosts = {
        got.id: Written(got.id, got.number, got.type, required=False)
        for got in seen
        if got.number not in numbers
    }
    merged = {**ghosts, **{entry.id: entry for entry in log}}
    return [merged[entry_id] for entry_id in sorted(merged)]
