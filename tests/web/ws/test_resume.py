"""Coming back with a cursor: what is proven goes on without a word, what is not begins with a gap.

Part of the sender contract: every test runs over the direct and over the plain ASGI sender.
"""

from collections.abc import AsyncIterator

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.servers.standalone import Server


@pytest.fixture
async def replica(redis_server: Server, sender: str) -> AsyncIterator[Replica]:
    """Nothing here expires: a stream that is made anew is there in time on a busy machine too."""
    topic = {"expired_grace_s": 60}
    async with Replica(redis_server.url, sender=sender, topic=topic) as replica:
        yield replica


@pytest.fixture
async def other(redis_server: Server, sender: str) -> AsyncIterator[Replica]:
    """A second replica, which knows nothing of the viewer that comes to it."""
    async with Replica(redis_server.url, pod="pod-2", sender=sender) as replica:
        yield replica


async def gap_of(viewer: Viewer) -> dict[str, object]:
    """The gap that must come right behind the state."""
    await viewer.state()
    frame = await viewer.next()
    assert frame["type"] == "gap", frame
    data: dict[str, object] = frame["data"]
    return data


@pytest.mark.full
async def test_a_viewer_comes_back_from_anywhere(replica: Replica, backend: Backend) -> None:
    """From the ring (256 entries) and from the log, and at the seam between them."""
    ids = await backend.publish_many("42", 300)
    async with replica.watch("42", history="none") as witness:
        await witness.state()
        ids += await backend.publish_many("42", 400)
        await witness.until_id(ids[-1])
        for behind in (0, 1, 50, 150, 254, 255, 256, 257, 258, 650):
            cursor = ids[-1 - behind]
            async with replica.watch("42", last_event_id=cursor) as viewer:
                assert (await viewer.state())["cursor"] == cursor
                ids.append(await backend.publish("42"))
                assert await viewer.ids(behind + 1) == ids[-behind - 1 :], f"{behind} behind"


async def test_a_viewer_comes_back_to_another_replica(
    replica: Replica, other: Replica, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 5)
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.until_id(ids[-1])
        viewer.vanish()
    ids += await backend.publish_many("42", 5)
    async with other.watch("42", last_event_id=ids[4]) as viewer:
        await viewer.state()
        assert await viewer.ids(5) == ids[5:]


async def test_a_trimmed_stream_announces_the_gap(replica: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 10)
    await backend.trim("42", 3)
    async with replica.watch("42", last_event_id=ids[2]) as viewer:
        assert await gap_of(viewer) == {"after": ids[2], "before": ids[7], "reason": "trimmed"}
        assert await viewer.ids(3) == ids[7:]
        new = await backend.publish("42")
        assert await viewer.ids(1) == [new]


async def test_the_cursor_of_that_history_is_no_gap_either(
    replica: Replica, other: Replica, backend: Backend
) -> None:
    await backend.publish_many("42", 10)
    await backend.trim("42", 3)
    async with replica.watch("42") as viewer:
        cursor = (await viewer.state())["cursor"]
        viewer.vanish()
    async with other.watch("42", last_event_id=cursor) as viewer:
        await viewer.state()
        frames = [await viewer.next() for _ in range(3)]
        # A gap is allowed here (it cannot be told from a cursor of before the trim), silence not.
        assert len([f for f in frames if "id" in f]) >= 2


async def test_a_recreated_stream_announces_the_gap(replica: Replica, backend: Backend) -> None:
    old = await backend.publish_many("42", 5)
    await backend.delete("42")
    new = await backend.publish_many("42", 3)
    async with replica.watch("42", last_event_id=old[4]) as viewer:
        assert await gap_of(viewer) == {"after": old[4], "before": new[0], "reason": "recreated"}
        assert await viewer.ids(3) == new


async def test_a_recreated_stream_is_announced_to_live_viewers(
    replica: Replica, backend: Backend
) -> None:
    old = await backend.publish_many("42", 5)
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.until_id(old[-1])
        await backend.delete("42")
        new = await backend.publish_many("42", 3)
        gap = await viewer.next()
        assert gap["data"] == {"after": old[4], "before": new[0], "reason": "recreated"}
        assert await viewer.ids(3) == new


async def test_a_rewound_stream_is_announced_to_live_viewers(
    replica: Replica, backend: Backend
) -> None:
    for ms in (1000, 2000, 3000):
        await backend.publish("42", entry_id=f"{ms}-0")
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.until_id("3000-0")
        await backend.delete("42")
        await backend.publish("42", entry_id="1500-0")
        gap = await viewer.next()
        assert gap["type"] == "gap"
        assert gap["data"]["after"] == "3000-0"
        assert gap["data"]["reason"] in ("rewound", "recreated")
        assert await viewer.ids(1) == ["1500-0"]
        await backend.publish("42", entry_id="1600-0")
        assert await viewer.ids(1) == ["1600-0"]


@pytest.mark.full
async def test_resuming_while_entries_pour_in_keeps_the_order(
    replica: Replica, backend: Backend
) -> None:
    """Of a type that is never conflated: a page fills the buffer, which makes the viewer lag."""
    ids = await backend.publish_many("42", 1500, type_="log")
    async with replica.watch("42", last_event_id=ids[9]) as viewer:
        more = []
        for start in range(0, 500, 50):
            more += await backend.publish_many("42", 50, start=start, type_="log")
        await viewer.state()
        assert await viewer.ids(1490 + 500) == ids[10:] + more
