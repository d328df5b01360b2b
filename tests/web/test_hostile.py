"""Viewers that mean harm are refused or bounded as the table of close codes says, and a good viewer
on the same replica gets every entry meanwhile.

On a replica of its own process, because its memory is looked at: it may grow by so much, however
often the harm is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bench.hostile import KINDS, TEXT, Ended, frame, harm
from bench.procfs import cpu_ns
from tests.faults.replicas import Replica
from tests.harness.backend import Backend
from tests.harness.raw_viewer import RawViewer
from tests.harness.replica import Replica as InProcess
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.model.close_codes import CLOSE_CODES

PATH = "/ws/operations/42"
#: How each kind ends: the close code, the HTTP status, or without a word.
ENDS = {
    "slow_headers": "cut",
    "slow_second_request": "cut",
    "endless_headers": "http 431",
    "endless_trailers": "http 404",  # and cut in the middle of them
    "requests_ahead": "cut",  # as is whoever does not read an answer
    "unread_pages": "cut",
    "silence": "close 1011",
    "never_reading": "patience",  # what ends it waits behind what it does not read
    "one_byte_texts": "close 4400",
    "pings": "close 4400",
    "one_byte_parts": "close 4400",
    "text_bomb": "close 1009",
    "deep_json": "close 4400",
    "huge_length": "close 1009",
    "compressed": "close 1002",
    "large_ping": "close 1002",
    "parted_ping": "close 1002",
    "unmasked": "close 1002",
    "wrong_utf8": "close 1007",
}
#: None of them is waited out, but the one whose end this is.
PATIENCE_S = 20.0
NEVER_READING_S = 5.0
TIMES = 5
#: Enough that a peer that does not read fills every buffer between here and there.
HISTORY = 3000
#: Of resident memory, over all kinds at once. Each of 80 connections may have a message of 64 KiB
#: and a full buffer of as much under way; what the allocator keeps is in it.
GROWTH_BYTES = 32 * 2**20
#: Short, because some are waited out, but longer than this process may have to wait for its turn:
#: it sends a good viewer's heads and pongs.
QUICK = {
    "replica.header_timeout_s": 3.0,
    "viewer.ping_interval_s": 0.3,
    "viewer.ping_timeout_s": 3.0,
    "viewer.close_timeout_s": 0.5,
}


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(0, redis_server.url, QUICK) as replica:
        yield replica
        assert replica.mishaps() == []


def rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no memory figures")


async def ends_of(replica: Replica, kind: str, times: int) -> list[Ended]:
    address = (replica.host, replica.port)
    patience_s = NEVER_READING_S if kind == "never_reading" else PATIENCE_S
    return await asyncio.gather(
        *(harm(kind, address, PATH, patience_s=patience_s) for _ in range(times))
    )


def gone(replica: Replica) -> Callable[[], Awaitable[bool]]:
    """For `until`: whether nobody is connected any more."""

    async def nobody() -> bool:
        by_kind: dict[str, int] = (await replica.state())["numbers"]["tidegate_connections"]
        return not any(by_kind.values())

    return nobody


async def publish_until(backend: Backend, done: asyncio.Event) -> list[str]:
    """Entries large enough for a buffer to fill up, all the time."""
    ids: list[str] = []
    while not done.is_set():
        ids += await backend.publish_many("42", 10, start=len(ids), pad=1000, type_="log")
        await asyncio.sleep(0.02)  # a pace
    return ids


def test_every_kind_has_its_end() -> None:
    assert ENDS.keys() == KINDS.keys()
    codes = {int(end.split()[1]) for end in ENDS.values() if end.startswith("close")}
    # 1002 is not in the table: a browser's own WebSocket cannot provoke it.
    assert codes - CLOSE_CODES.keys() == {1002}


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_ended_and_a_good_viewer_notices_nothing(
    replica: Replica, backend: Backend, kind: str
) -> None:
    await backend.publish_many("42", HISTORY, pad=1000, type_="log")
    done = asyncio.Event()
    url = f"ws://{replica.host}:{replica.port}{PATH}?history=none"
    async with Viewer(url) as good:
        await good.state()
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(publish_until(backend, done))
            ends = await ends_of(replica, kind, TIMES)
            done.set()
        written = publishing.result()

        assert [str(end) for end in ends] == [ENDS[kind]] * TIMES
        assert await good.ids(len(written)) == written
        # Compression was offered, and is not granted to anybody.
        assert all(b"extensions" not in end.head.lower() for end in ends)
    await until(gone(replica))


async def test_each_kind_has_its_end_and_a_good_viewer_notices_nothing(
    replica: Replica, backend: Backend
) -> None:
    """All at once, because some are waited out."""
    await backend.publish_many("42", HISTORY, pad=1000, type_="log")
    done = asyncio.Event()
    async with Viewer(f"ws://{replica.host}:{replica.port}{PATH}?history=none") as good:
        await good.state()
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(publish_until(backend, done))
            found = await asyncio.gather(*(ends_of(replica, kind, 1) for kind in KINDS))
            done.set()
        written = publishing.result()
        assert {kind: str(end) for kind, (end,) in zip(KINDS, found, strict=True)} == ENDS
        assert all(b"extensions" not in end.head.lower() for (end,) in found)
        assert await good.ids(len(written)) == written
    await until(gone(replica))


async def test_a_flood_is_not_parsed_to_its_end(replica: Replica, backend: Backend) -> None:
    """Parsing is what a flood costs the others: 144 ms when it was done to the end."""
    await backend.publish("42")
    one_byte = frame(TEXT, b"{")
    url = f"ws://{replica.host}:{replica.port}{PATH}"
    before = cpu_ns(replica.process.pid)
    for _ in range(5):
        with await RawViewer.open(url) as flood:
            with contextlib.suppress(ConnectionError):
                await flood.write(one_byte * 60_000)
            await flood.until_end()
            assert flood.close_code in (4400, None)  # None: it was cut before it could be read
    cost_s = (cpu_ns(replica.process.pid) - before) / 1e9 / 5
    assert cost_s < 0.05, f"{cost_s:.3f} s for a flood"


@pytest.mark.full
async def test_memory_stays_bounded_under_all_of_them_at_once(
    replica: Replica, backend: Backend
) -> None:
    await backend.publish_many("42", HISTORY, pad=1000, type_="log")

    async def all_at_once() -> None:
        await asyncio.gather(*(ends_of(replica, kind, TIMES) for kind in KINDS))

    await all_at_once()  # what is allocated once: code, rings, the allocator's arenas
    before = rss_bytes(replica.process.pid)
    for _ in range(2):
        await all_at_once()
    after = rss_bytes(replica.process.pid)

    assert after - before < GROWTH_BYTES, f"{before / 2**20:.1f} MiB, then {after / 2**20:.1f}"


async def test_a_crowd_that_says_nothing_keeps_others_out_for_a_moment_only(
    redis_server: Server, backend: Backend
) -> None:
    """Connections without a request are bounded, and those that come to nothing make room."""
    await backend.publish("42")
    few = {"connects_burst": 20, "header_timeout_s": QUICK["replica.header_timeout_s"]}
    async with InProcess(redis_server.url, replica=few) as replica:
        address = ("127.0.0.1", replica.settings.server.port)
        silent = [await asyncio.open_connection(*address) for _ in range(20)]
        # The replica accepts in the order of the connects.
        late = await harm("silence", address, PATH, patience_s=PATIENCE_S)
        assert str(late) == "http 503"
        assert b"Retry-After: 2" in late.head
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""  # header_timeout_s has ended it
            writer.close()
        async with Viewer(f"ws://{address[0]}:{address[1]}{PATH}") as good:
            await good.state()
            await good.entries(1)
        state = (await replica.admin("/debug/state")).json()
        refusals = state["numbers"]["tidegate_refusals_total"]
        assert refusals == {"waiting": 1, "header_time": 20}
