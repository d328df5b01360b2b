"""Viewers and numbered publishers around a harm, and what it did to them.

    async with watching(release, "a pod is killed", viewers=100) as crowd:
        crowd.blow()
        ...                                        # the harm
        await crowd.recover()

Every viewer asks for all history, so nothing may be missing from it, and must come to the terminal
entry of its operation by itself. `tests.faults.judge` has the verdict; figures go to the report.
Times are of this machine, and so are those in the entries' ids on the lab.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.exceptions import RedisError

from tests.cluster.patience import PATIENCE_S, until
from tests.cluster.release import Release
from tests.cluster.report import Figures
from tests.faults.judge import Closed, Complaint, Event, Gap, Opened, Wrong, judge
from tests.faults.publisher import Publisher
from tests.faults.viewer import Viewer
from tests.harness.ending import ended
from tidegate.redis.batches import end_if_cancelled

OPERATIONS = 10
ENTRIES_PER_S = 4.0


class TimedViewer(Viewer):
    """Notes as well when it was connected and cut."""

    opened_at: list[float]
    closed_at: list[float]

    def _note(self, event: Event) -> None:
        if isinstance(event, Opened):
            self.opened_at.append(time.time())
        elif isinstance(event, Closed):
            self.closed_at.append(time.time())
        super()._note(event)

    def recovery_s(self, since: float) -> float | None:
        """From the blow to the first entry written after its loss; None: it lost nothing."""
        lost = next((at for at in self.closed_at if at >= since), None)
        if lost is None:
            return None
        back = next((one.at for one in self.arrivals if one.at > lost), None)
        return None if back is None else back - lost


class Crowd:
    """Use `watching`."""

    def __init__(
        self,
        release: Release,
        name: str,
        viewers: int,
        password: str,
        kinds: Sequence[type[TimedViewer]],
    ) -> None:
        self.name = name
        self.viewers: list[TimedViewer] = []
        self._release = release
        self._client = release.redis(password)
        self._count = viewers
        self._kinds = kinds
        self._publishers: list[Publisher] = []
        self._ending: set[str] = set()
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._blow = 0.0
        self._notes: dict[str, object] = {}

    # --- life

    async def start(self) -> None:
        """Publish, and join; every viewer has an entry when it returns."""
        stamp = f"{time.time_ns() // 1_000_000:x}"
        word = "".join(letter for letter in self.name if letter.isalnum())
        for number in range(OPERATIONS):
            publisher = Publisher(self._client, f"{word}-{stamp}-{number}")
            self._publishers.append(publisher)
            work = self._publish(publisher, random.Random(number))
            self._writing[publisher.operation] = self._task(work, publisher.operation)
        await self.join(self._count)

    async def join(self, count: int) -> None:
        """So many viewers more, over a second or two, as browsers come."""
        rng = random.Random(self.name)
        new = []
        for number in range(count):
            operation = self._publishers[number % OPERATIONS].operation
            name = f"{operation}/{len(self.viewers)}"
            # Of each operation, whichever divides the other.
            kind = self._kinds[(number // OPERATIONS) % len(self._kinds)]
            viewer = kind(name, operation, [self._release.address], rng=random.Random(rng.random()))
            viewer.opened_at, viewer.closed_at = [], []
            self.viewers.append(viewer)
            new.append(viewer)
            _ = self._task(viewer.run(), name)
            await asyncio.sleep(0.005)

        async def all_have_some() -> bool:
            return all(viewer.arrivals for viewer in new)

        await until(all_have_some, f"{count} viewers with an entry")

    async def finish_some(self, operations: int) -> None:
        """End the first so many operations; their viewers leave, having seen all."""
        ending = [one for one in self._publishers if not one.finished][:operations]
        self._ending |= {publisher.operation for publisher in ending}
        # Nothing may be written after the terminal entry.
        await asyncio.gather(*(self._writing[publisher.operation] for publisher in ending))
        await asyncio.gather(*(publisher.finish() for publisher in ending))
        names = {publisher.operation for publisher in ending}
        await self._ends([viewer for viewer in self.viewers if viewer.operation in names])

    async def finish(self) -> None:
        """End the operations, wait for the viewers, judge, and report."""
        await self.finish_some(OPERATIONS)
        await self._judge()

    async def close(self) -> None:
        """Within a bound, whatever has failed before."""
        await ended(self._tasks)
        with suppress(RedisError, OSError):  # a server that is not there cannot be left in order
            await self._client.aclose()

    # --- harm

    def blow(self) -> float:
        """From now on it counts."""
        self._blow = time.time()
        return self._blow

    async def recover(self) -> None:
        """Until every viewer has an entry that was written after now."""
        begin = time.time()

        async def all_have_news() -> bool:
            watching = [viewer for viewer in self.viewers if not viewer.ended.is_set()]
            return all(v.arrivals and v.arrivals[-1].written > begin for v in watching)

        await until(all_have_news, "news for every viewer")

    def note(self, name: str, value: object) -> None:
        """One more figure for the report."""
        self._notes[name] = value

    def left(self) -> int:
        """Connections lost since the blow."""
        return sum(at >= self._blow for viewer in self.viewers for at in viewer.closed_at)

    # --- inside

    async def _ends(self, viewers: list[TimedViewer]) -> None:
        async def all_ended() -> bool:
            return all(viewer.ended.is_set() for viewer in viewers)

        try:
            await until(all_ended, "the ends")
        except AssertionError:
            pass  # the judge says who did not come to its end

    async def _publish(self, publisher: Publisher, rng: random.Random) -> None:
        while publisher.operation not in self._ending:
            await publisher.write("log" if rng.random() < 0.2 else "progress")
            end_if_cancelled()
            await asyncio.sleep(rng.expovariate(ENTRIES_PER_S))

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def _judge(self) -> None:
        logs = {}
        async with asyncio.timeout(PATIENCE_S):
            for publisher in self._publishers:
                while publisher.operation not in logs:
                    try:
                        logs[publisher.operation] = await publisher.log()
                    except (RedisError, OSError):
                        await asyncio.sleep(0.2)
        complaints: list[tuple[TimedViewer, Complaint]] = []
        total: Counter[str] = Counter()
        for viewer in self.viewers:
            verdict = judge(viewer.record, [logs[viewer.operation]], viewer.rules)
            complaints += [(viewer, complaint) for complaint in verdict.complaints]
            total["deliveries"] += verdict.entries
            total["skipped"] += verdict.skipped
            total["gaps"] += sum(isinstance(event, Gap) for event in viewer.record)
        wrong = Counter(complaint.wrong for _, complaint in complaints)
        times = [s for v in self.viewers if (s := v.recovery_s(self._blow)) is not None]
        figures = Figures(
            name=self.name,
            viewers=len(self.viewers),
            entries=sum(map(len, logs.values())),
            deliveries=total["deliveries"],
            skipped=total["skipped"],
            lost=wrong[Wrong.LOST],
            twice=wrong[Wrong.TWICE],
            disordered=wrong[Wrong.ORDER],
            other=sum(wrong.values())
            - sum(wrong[w] for w in (Wrong.LOST, Wrong.TWICE, Wrong.ORDER)),
            gaps=total["gaps"],
            cut=self.left() - sum(viewer.closed == 1000 for viewer in self.viewers),
            peak_per_s=_peak([at for v in self.viewers for at in v.opened_at if at >= self._blow]),
            recovery_s=times,
            notes=self._notes,
        )
        figures.report()
        told = [
            f"{viewer.name}: {complaint}; it was told {dict(viewer.said)}"
            for viewer, complaint in complaints[:10]
        ]
        # Nothing was trimmed, so there is nothing to announce.
        told += [f"{v.name}: needless {g}" for v in self.viewers for g in v.gaps()][:10]
        assert not told, "\n".join(told)


def _peak(times: list[float]) -> int:
    """Most connects within one second."""
    times = sorted(times)
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] < at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


@asynccontextmanager
async def watching(
    release: Release,
    name: str,
    *,
    viewers: int,
    kinds: Sequence[type[TimedViewer]] = (TimedViewer,),
) -> AsyncIterator[Crowd]:
    """Viewers that have all got something, while publishers go on; judged at the end."""
    await release.open_ports()
    crowd = Crowd(release, name, viewers, await release.password(), kinds)
    try:
        await crowd.start()
        crowd.blow()
        yield crowd
        await crowd.finish()
    finally:
        await crowd.close()
