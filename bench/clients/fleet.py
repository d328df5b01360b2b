"""Two servers of one kind behind one address, on a Redis of their own, and who publishes.

The address is a TCP proxy's: after a kill, new connections go to the other server, which has been
running, as behind any load balancer. Nothing is pinned: a browser is many processes.
"""

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.child import Child, running
from bench.stage import free_port, redis_binary, until_answers, until_ready
from bench.subjects import Subject
from tests.servers.proxy import Proxy

PUBLISH_MARGIN_S: Final = 60.0


@dataclass(slots=True)
class Fleet:
    """`address` is where pages connect: the first server until it is killed."""

    proxy: Proxy
    publisher: Child
    _subject: Subject
    _folder: Path
    _places: list[dict[str, object]]
    _first: AsyncExitStack
    _starts: int = 0
    #: Of each operation so far.
    entries: int = 0

    @property
    def address(self) -> str:
        return f"http://{self.proxy.address}"

    async def start_first(self) -> None:
        """The first server, and new connections go to it."""
        self._starts += 1
        place = self._places[0] | {"pod": f"first-{self._starts}"}
        name = f"{self._subject.name}-first-{self._starts}"
        await _start(self._first, self._subject, place, name, self._folder)
        self.proxy.target = ("127.0.0.1", int(str(place["port"])))

    async def kill_first(self) -> None:
        """SIGKILL, and new connections go to the second."""
        self.proxy.target = ("127.0.0.1", int(str(self._places[1]["port"])))
        await self._first.aclose()

    async def fill(self, operations: int) -> None:
        """One entry for each operation."""
        await self.publisher.ask(
            "fill", timeout_s=PUBLISH_MARGIN_S, operations=operations, entries_each=1
        )
        self.entries += 1

    async def publish(self, operations: int, per_second: float, seconds: float) -> dict[str, Any]:
        """To all operations in turn, paced. The publisher's report."""
        each = round(per_second * seconds / operations)
        report = await self.publisher.ask(
            "publish",
            timeout_s=seconds + PUBLISH_MARGIN_S,
            operations=operations,
            entries=each * operations,
            per_second=per_second,
        )
        self.entries += each
        return report


async def _start(
    stack: AsyncExitStack, subject: Subject, place: dict[str, object], name: str, folder: Path
) -> None:
    cores = frozenset(os.sched_getaffinity(0))
    command = subject.command(**place)
    server = await stack.enter_async_context(running(name, command, folder=folder, cores=cores))
    await until_ready(server, subject.ready_url(**place))


@asynccontextmanager
async def open_fleet(subject: Subject, folder: Path, operations: int) -> AsyncIterator[Fleet]:
    """Both servers ready, and one entry in each operation."""
    cores = frozenset(os.sched_getaffinity(0))
    async with AsyncExitStack() as stack:
        port = free_port()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()  # noqa: ASYNC240  # before anything is measured
        redis = await stack.enter_async_context(
            running(
                "redis",
                (
                    redis_binary(),
                    *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
                    *("--save", "", "--appendonly", "no"),
                ),
                folder=folder,
                cores=cores,
            )
        )
        await until_answers(redis, port)
        places: list[dict[str, object]] = [
            {
                "port": free_port(),
                "admin_port": free_port(),
                "redis": f"redis://127.0.0.1:{port}/0",
                "pod": name,
            }
            for name in ("first", "second")
        ]
        await _start(stack, subject, places[1], f"{subject.name}-second", folder)
        publisher = await stack.enter_async_context(
            running(
                "publisher",
                (
                    *(sys.executable, "-m", "bench.publisher", "--redis-port", str(port)),
                    # The one that is not killed.
                    *("--api", subject.api_url(**places[1])),
                ),
                folder=folder,
                cores=cores,
                talks=True,
            )
        )
        first = await stack.enter_async_context(AsyncExitStack())
        proxy = await stack.enter_async_context(Proxy(("127.0.0.1", int(str(places[1]["port"])))))
        fleet = Fleet(proxy, publisher, subject, folder, places, first)
        await fleet.fill(operations)
        await fleet.start_first()
        yield fleet
