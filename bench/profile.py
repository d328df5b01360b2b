"""Where the server's time goes: one scenario under load, sampled from outside by py-spy.

The samples cover the measured stretch only, not the start or the warm-up. Sampling stops the
server for moments, so latencies of a profiled round mean nothing; shares of time do. Written as
collapsed stacks, which every flame graph tool reads, and shown as the functions and lines where it
was most often found.
"""

import asyncio
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

from bench.child import running
from bench.errors import NotPossible
from bench.measures import Watch
from bench.stage import Stage

SAMPLES_PER_S: Final = 400
WRITE_S: Final = 30.0


def py_spy() -> str:
    """The sampler's path. Raises `NotPossible` when it is not there."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise NotPossible("there is no py-spy: pip install 'tidegate[bench]'")
    return found


def sampler(output: Path, *, native: bool, picture: bool) -> Watch:
    """A `watch` for a bed: samples the first server into `output` during the measured stretch."""
    binary = py_spy()

    @asynccontextmanager
    async def watch(stage: Stage) -> AsyncIterator[None]:
        argv = [
            binary,
            "record",
            *("--pid", str(stage.servers[0].pid)),
            *("--rate", str(SAMPLES_PER_S)),
            *("--format", "flamegraph" if picture else "raw"),
            *("--output", str(output)),
            *(("--native",) if native else ()),
        ]
        async with running(
            "py-spy", argv, folder=stage.folder, cores=stage.pinning.rest
        ) as recorder:
            yield
            if recorder.process.returncode is None:
                recorder.process.send_signal(signal.SIGINT)
                try:
                    async with asyncio.timeout(WRITE_S):
                        await recorder.process.wait()
                except TimeoutError:
                    raise recorder.failed("did not finish writing") from None
            if recorder.process.returncode != 0:
                raise recorder.failed("failed (it needs root, or ptrace of own processes)")

    return watch


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples by place: `own` where the top of the stack was, `within` anywhere on it."""

    samples: int
    own: Counter[str]
    within: Counter[str]
    lines: Counter[str]


def read_collapsed(lines: Iterable[str]) -> Profile:
    """Sum up `frame;frame;frame count` lines, frames as py-spy writes them: `name (file:line)`."""
    samples = 0
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    places: Counter[str] = Counter()
    for line in lines:
        stack, _, count_text = line.strip().rpartition(" ")
        if not stack or not count_text.isdigit():
            continue
        count = int(count_text)
        frames = stack.split(";")
        samples += count
        own[_function(frames[-1])] += count
        places[frames[-1]] += count
        for function in {_function(frame) for frame in frames}:
            within[function] += count
    return Profile(samples, own, within, places)


def _function(frame: str) -> str:
    """`name (file:12)` without the line."""
    name, _, place = frame.partition(" (")
    return f"{name} ({place.rpartition(':')[0]})" if ":" in place else frame


def profile_tables(profile: Profile, most: int) -> list[Table]:
    """The three lists: own time, time within, lines."""
    tables = []
    for title, counter in (
        ("own time, by function", profile.own),
        ("time within, callees included", profile.within),
        ("own time, by line", profile.lines),
    ):
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("%", justify="right")
        table.add_column("where")
        for place, count in counter.most_common(most):
            table.add_row(f"{100 * count / max(1, profile.samples):.1f}", place)
        tables.append(table)
    return tables
