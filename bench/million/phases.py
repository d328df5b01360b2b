"""The phases of a run, in order.

    connect   as many viewers as memory allows, as fast as they are accepted
    hold      only pings
    each      one entry to each operation, as fast as Redis accepts them
    crowd     one entry to the operation that the crowd watches
    kill      SIGKILL to one replica, and an entry to the crowd while its viewers are away
    drain-N   SIGTERM to one replica after the other; each is restarted before the next
    after     one entry to each operation again: every viewer has to receive it as the next one

If a phase does not finish in time, what is missing is reported and the run continues. It ends early
only if memory is low (`OutOfMemory`) or a process exits unexpectedly.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bench.errors import BenchError
from bench.million import room
from bench.million.memory import Split
from bench.million.pauses import late
from bench.million.scene import in_crowd
from bench.million.site import DRAIN_WINDOW_S, LOOK_S, MANY, Site, Tally
from bench.stats import percentile

#: Concurrent handshakes of all swarms: enough to keep the replicas busy.
IN_FLIGHT: Final = 512
#: Deliveries end when none has arrived for this time.
QUIET_S: Final = 20.0
#: Connecting ends when no viewer has connected for this time.
STUCK_S: Final = 30.0
BACK_S: Final = 900.0
DELIVERED_S: Final = 600.0
PUBLISH_S: Final = 600.0
#: Entries per second without a limit; the publisher waits while 50,000 are unanswered.
UNPACED: Final = 1e6

#: Shows progress: a text, and the finished share of the phase.
Tell = Callable[[str, float], None]


class OutOfMemory(BenchError):
    """Half of the reserve is used; what was measured until then is kept."""


@dataclass(slots=True)
class Phase:
    """One phase: its figures and events by name, and its problems as text."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """All phases so far, memory by owner, and why there are not more viewers."""

    viewers: int = 0
    stopped_by: str = ""
    phases: list[Phase] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        return [f"{one.name}: {text}" for one in self.phases for text in one.problems]


class Director:
    """Runs the phases on a site, and adds them to a `Run`."""

    def __init__(self, site: Site, run: Run, tell: Tell) -> None:
        self._site = site
        self._scene = site.scene
        self._run = run
        self._tell = tell

    async def play(self) -> None:
        """Run all phases.

        Raises:
            BenchError: see the module.
        """
        await self._site.publisher.ask(
            "fill", timeout_s=PUBLISH_S, operations=self._scene.operations, entries_each=1
        )
        await self._connect()
        await self._hold()
        await self._publish("each", self._scene.operations)
        await self._publish("crowd", 1)
        if self._scene.replicas > 1:
            await self._kill()
            await self._drain()
            await self._publish("after", self._scene.operations)

    @asynccontextmanager
    async def _phase(self, name: str, deliveries: int = 0) -> AsyncIterator[Phase]:
        """Measure a phase: its costs, and what happened to viewers in it."""
        phase = Phase(name)
        self._run.phases.append(phase)
        self._tell(name, 0.0)
        # Each viewer receives an entry once.
        await self._site.reset(min(deliveries, self._scene.per_swarm))
        before, pauses = self._site.costs(), await self._site.pauses()
        try:
            yield phase
        finally:
            costs = self._site.costs().since(before)
            phase.figures |= {name: round(value, 3) for name, value in costs.items()}
            phase.figures |= late(pauses, await self._site.pauses())
        tally = await self._site.tally()
        phase.happened = dict(tally.happened)
        for name in ("missed", "repeated"):
            if tally.counts[name]:
                phase.problems.append(f"{tally.counts[name]:,} entries {name}")
        if tally.happened["gap"]:
            phase.problems.append(f"{tally.happened['gap']:,} gaps reported")
        if tally.states["gone"]:
            phase.problems.append(f"{tally.states['gone']:,} viewers were refused permanently")

    async def _look(self) -> Tally:
        """Wait a moment, and return the current figures.

        Raises:
            OutOfMemory: memory is low.
            ProcessFailed: a process has exited.
        """
        await asyncio.sleep(LOOK_S * (1 + self._scene.swarms // MANY))
        free = room.available_bytes()
        if free < room.RESERVE_BYTES // 2:
            raise OutOfMemory(f"stopped: only {free / 2**30:.1f} GiB of memory are left")
        self._site.costs()  # raises when a process has ended
        return await self._site.tally()

    # --- phases ---------------------------------------------------------------------------------

    async def _connect(self) -> None:
        site, wanted = self._site, self._scene.viewers
        before = site.memory()
        async with self._phase("connect") as phase:
            began = changed = time.monotonic()
            tally = await site.tally()
            allowed, seen, half_s = 0, 0, None
            while tally.open < wanted:
                now = time.monotonic()
                if tally.open > seen:
                    seen, changed = tally.open, now
                if half_s is None and seen >= wanted // 2:
                    half_s = now - began
                connecting = tally.states["connecting"] + tally.states["upgrading"]
                free = room.available_bytes()
                affordable = room.affordable(tally.open + connecting, wanted, free)
                if affordable > allowed:
                    allowed = affordable
                    each = -(-allowed // self._scene.swarms)
                    in_flight = -(-IN_FLIGHT // self._scene.swarms)
                    await site.ask("open", upto=each, in_flight=in_flight)
                elif tally.open >= affordable and not connecting:
                    self._run.stopped_by = (
                        f"memory: {free / 2**30:.1f} GiB are left, of which "
                        f"{room.RESERVE_BYTES / 2**30:.0f} are reserved"
                    )
                    break
                if now - changed > STUCK_S:
                    self._run.stopped_by = f"no viewer has connected for {STUCK_S:.0f} s"
                    phase.problems.append(self._run.stopped_by)
                    break
                rate = seen / max(0.001, now - began)
                self._tell(
                    f"connect: {seen:,} of {wanted:,}, {rate:,.0f}/s, {free / 2**30:.1f} GiB left",
                    seen / wanted,
                )
                tally = await self._look()
            self._run.viewers = tally.open
            if not tally.open:
                raise BenchError(f"no viewer could connect: {dict(tally.happened)}")
            seconds = time.monotonic() - began
            phase.figures["per_second"] = tally.open / seconds
            if half_s is not None and seconds > half_s:
                # Whether the rate falls as the replicas fill.
                later = (tally.open - wanted // 2) / (seconds - half_s)
                phase.figures["per_second_second_half"] = later
        split = site.memory().since(before)
        self._note_memory(split)

    def _note_memory(self, split: Split) -> None:
        viewers = self._run.viewers
        self._run.memory = {
            "servers": split.servers,
            "redis": split.redis,
            "clients": split.clients,
            "kernel": split.kernel,
            "other": split.other,
            "total": split.total,
            "per_viewer": {name: round(value) for name, value in split.per_viewer(viewers).items()},
        }

    async def _hold(self) -> None:
        async with self._phase("hold") as phase:
            began = time.monotonic()
            while (passed := time.monotonic() - began) < self._scene.seconds:
                self._tell("hold", passed / self._scene.seconds)
                await self._look()
            gone = self._run.viewers - (await self._site.tally()).open
            if gone:
                phase.problems.append(f"{gone:,} viewers lost their connection")
        figures = phase.figures
        scale = 1e6 / (figures["seconds"] * self._run.viewers)
        figures["server_us_per_viewer_s"] = figures["servers_s"] * scale
        figures["server_bytes_after"] = self._site.memory().servers

    async def _publish(self, name: str, operations: int) -> None:
        """Publish one entry to each of the first `operations`, and measure the deliveries."""
        viewers = self._run.viewers
        expected = viewers if operations > 1 else in_crowd(viewers, self._scene.crowd)
        async with self._phase(name, expected) as phase:
            began = time.monotonic()
            cpu = self._site.costs()
            publishing = asyncio.create_task(self._entries(operations))
            await self._delivered(phase, expected, publishing)
            spent = self._site.costs().since(cpu)
            if phase.figures["delivered"]:
                phase.figures["cpu_us_per_delivery"] = (
                    spent["servers_s"] * 1e6 / phase.figures["delivered"]
                )
            tally = await self._site.tally()
            if tally.last_ns:
                phase.figures["last_after_s"] = tally.last_ns / 1e9 - began
            delays, _ = await self._site.times_s()
            if delays:
                for percent in (50, 99):
                    phase.figures[f"delay_p{percent}_s"] = percentile(delays, percent)
                phase.figures["delay_max_s"] = delays[-1]

    async def _entries(self, operations: int) -> dict[str, Any]:
        return await self._site.publisher.ask(
            "publish",
            timeout_s=PUBLISH_S,
            operations=operations,
            entries=operations,
            per_second=UNPACED,
        )

    async def _delivered(
        self, phase: Phase, expected: int, publishing: "asyncio.Task[dict[str, Any]]"
    ) -> None:
        """Wait until all viewers have the entry, or nothing arrives any more."""
        deadline = time.monotonic() + DELIVERED_S
        seen, changed = -1, time.monotonic()
        while seen < expected and time.monotonic() < deadline:
            tally = await self._look()
            if tally.counts["delivered"] > seen or not publishing.done():
                seen, changed = tally.counts["delivered"], time.monotonic()
            elif time.monotonic() - changed > QUIET_S:
                break
            self._tell(f"{phase.name}: {seen:,} of {expected:,}", seen / expected)
        sent = await publishing
        phase.figures |= {
            "expected": expected,
            "delivered": seen,
            "published_s": sent["seconds"],
        }
        if seen < expected:
            phase.problems.append(f"{expected - seen:,} of {expected:,} were not delivered")

    async def _kill(self) -> None:
        site = self._site
        replica = site.replicas[0]
        crowd = in_crowd(self._run.viewers, self._scene.crowd)
        async with self._phase("kill", crowd) as phase:
            affected = (await site.tally()).at[0]
            killed_ns = time.monotonic_ns()
            await replica.kill()
            sent = await self._entries(1)
            phase.figures |= {"viewers_of_it": affected, "published_s": sent["seconds"]}
            await self._back(phase, affected, killed_ns)
            delivered = (await site.tally()).counts["delivered"]
            phase.figures |= {"expected": crowd, "delivered": delivered}
            if delivered < crowd:
                phase.problems.append(f"{crowd - delivered:,} missed the entry published meanwhile")
            await self._again(replica)

    async def _drain(self) -> None:
        site = self._site
        # The replica that was killed is last: it has no viewers yet.
        places = [*range(1, len(site.replicas)), 0]
        for place in places[: self._scene.drains]:
            replica = site.replicas[place]
            async with self._phase(f"drain-{place}") as phase:
                affected = (await site.tally()).at[place]
                began_ns = time.monotonic_ns()
                spread_s = affected / self._scene.absorb_per_s
                within_s = DRAIN_WINDOW_S + spread_s
                await replica.stop(within_s)
                phase.figures |= {
                    "viewers_of_it": affected,
                    "exit_after_s": (time.monotonic_ns() - began_ns) / 1e9,
                }
                await self._back(phase, affected, began_ns)
                await self._again(replica)

    async def _again(self, replica: Any) -> None:
        """Restart a replica on the same ports, and wait until it is in rotation."""
        await self._site.until(replica, in_rotation=False)
        await replica.start_again()
        await self._site.until(replica, in_rotation=True)

    async def _back(self, phase: Phase, affected: int, since_ns: int) -> None:
        """Wait until all viewers have reconnected, at most `BACK_S`."""
        deadline = time.monotonic() + BACK_S
        while True:
            tally = await self._look()
            missing = self._run.viewers - tally.open
            back = tally.counts["returned"]
            self._tell(f"{phase.name}: {missing:,} away", 1 - missing / max(1, affected, missing))
            if not missing and back >= affected:
                break
            if time.monotonic() > deadline:
                phase.problems.append(
                    f"{missing:,} viewers had not reconnected after {BACK_S:.0f} s"
                )
                break
        tally = await self._site.tally()
        phase.figures["came_back"] = tally.counts["returned"]
        if tally.back_ns:
            phase.figures["last_back_s"] = (tally.back_ns - since_ns) / 1e9
        _, absences = await self._site.times_s()
        if absences:
            for percent in (50, 99):
                phase.figures[f"away_p{percent}_s"] = percentile(absences, percent)
            phase.figures["away_max_s"] = absences[-1]
