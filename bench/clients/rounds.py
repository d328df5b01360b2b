"""One round of one client: its first update, its CPU at a steady pace, its way back after kills."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.clients.fleet import Fleet, open_fleet
from bench.clients.libraries import SOURCES, Library, bundle
from bench.clients.site import serving
from bench.clients.subjects import server_of
from bench.errors import NotPossible
from tests.cli.browser import Browser
from tests.servers import binaries

#: Before and behind the stretch that is measured, in which the pace is steady.
SETTLE_S: Final = 1.0
KILL_AFTER_S: Final = 1.5
KILL_PER_S: Final = 200.0
KILL_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round does."""

    operations: int
    per_second: float
    seconds: float
    loads: int
    kills: int


@dataclass(frozen=True, slots=True)
class Round:
    """`cpu_ms` and `script_ms`: of the page's main thread, for 1,000 updates."""

    first_ms: float
    cpu_ms: float
    script_ms: float
    back_ms: list[float]
    lost: int
    again: int
    late_p99_ms: float


async def measure(library: Library, plan: Plan, scratch: Path, modules: Path) -> Round:
    """Raises `NotPossible` without Chromium, and AssertionError when a page gets no updates."""
    program = binaries.browser()
    if program is None:
        raise NotPossible("a page needs Chromium on PATH (Debian: apt-get install chromium)")
    site = scratch / "site"
    bundle(library, site)
    (site / "index.html").write_bytes((SOURCES / "index.html").read_bytes())
    with serving(site) as origin:
        subject = server_of(library, modules, operations=plan.operations, origin=origin)
        async with (
            open_fleet(subject, scratch / "logs", plan.operations) as fleet,
            Browser(program) as browser,
        ):
            page = _Page(browser, origin, fleet.address)
            first = [await page.first_update() for _ in range(plan.loads)]
            await page.open(plan.operations)
            cpu, script, late = await _steady(page, fleet, plan)
            kills = [await _killed(page, fleet, plan) for _ in range(plan.kills)]
            return Round(
                first_ms=median(first),
                cpu_ms=cpu,
                script_ms=script,
                back_ms=[seen["silenceMs"] for seen in kills],
                lost=sum(seen["lost"] for seen in kills),
                again=sum(seen["again"] for seen in kills),
                late_p99_ms=late,
            )


class _Page:
    def __init__(self, browser: Browser, origin: str, address: str) -> None:
        self._browser = browser
        self._origin = origin
        self._address = address
        self._loads = 0

    async def open(self, operations: int) -> None:
        """A new page; returns when it has something of each operation."""
        self._loads += 1
        query = f"?load={self._loads}&operations={operations}&url={self._address}"
        await self._browser.open(f"{self._origin}/{query}")
        await self.has(1)

    async def first_update(self) -> float:
        """Of a page with one operation: ms from the start of the navigation."""
        await self.open(1)
        seen = await self.seen()
        return float(seen["firstMs"])

    async def has(self, entries: int) -> None:
        await self._browser.until(f"globalThis.bench?.has({entries})")

    async def begin(self) -> None:
        await self._browser.evaluate("bench.begin()")

    async def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._browser.evaluate("bench.seen")
        return found

    async def clocks(self) -> dict[str, float]:
        """CPU seconds of the main thread, not time on the wall."""
        await self._browser.call("Performance.enable", timeDomain="threadTicks")
        answer = await self._browser.call("Performance.getMetrics")
        return {metric["name"]: metric["value"] for metric in answer["metrics"]}


async def _steady(page: _Page, fleet: Fleet, plan: Plan) -> tuple[float, float, float]:
    publishing = asyncio.create_task(
        fleet.publish(plan.operations, plan.per_second, plan.seconds + 2 * SETTLE_S)
    )
    await asyncio.sleep(SETTLE_S)
    before, had = await page.clocks(), (await page.seen())["updates"]
    await asyncio.sleep(plan.seconds)
    after, has = await page.clocks(), (await page.seen())["updates"]
    report = await publishing
    thousands = (has - had) / 1000
    cpu, script = (
        (after[name] - before[name]) * 1000 / thousands
        for name in ("TaskDuration", "ScriptDuration")
    )
    return cpu, script, float(report["late_p99_ms"])


async def _killed(page: _Page, fleet: Fleet, plan: Plan) -> dict[str, Any]:
    """What the page saw while the server that it was connected to was killed."""
    await page.open(plan.operations)
    publishing = asyncio.create_task(fleet.publish(plan.operations, KILL_PER_S, KILL_S))
    await asyncio.sleep(KILL_AFTER_S)
    await page.begin()
    await fleet.kill_first()
    await publishing
    # Each operation's last entry came long after the kill.
    await page.has(fleet.entries)
    seen = await page.seen()
    await fleet.start_first()
    return seen
