"""The pace of a link: rounds of commands that leave together, and what a hold must not break."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.harness.backend import Backend
from tests.harness.waiting import until
from tests.redis.open_link import OpenLink
from tests.servers.standalone import Server
from tidegate.model.errors import RedisUnavailable
from tidegate.redis.link import pack
from tidegate.redis.timer import HighResolutionTimer

PACE_S = 0.02


class Round:
    """Commands sent together; what they were answered, and when."""

    def __init__(self, link: OpenLink) -> None:
        self._link = link
        self.answers: list[object] = []
        self.turns: list[int] = []
        self._answer = asyncio.Event()
        self.wanted = 0

    def send(self, *texts: str) -> None:
        self.wanted += len(texts)
        for text in texts:
            self._link.link.send_together(pack("ECHO", text), self._answered)

    def _answered(self, reply: object) -> None:
        self.answers.append(reply)
        self.turns.append(self._link.turns.begun)
        self._answer.set()

    async def done(self) -> None:
        async with asyncio.timeout(10):
            while len(self.answers) < self.wanted:
                self._answer.clear()
                await self._answer.wait()


async def crowded(link: OpenLink, *, until_held: bool = False) -> Round:
    """A link on which commands come closer than the pace; `until_held`: only just so, and a round
    has left a moment ago.
    """
    sent = Round(link)
    for number in range(30):
        if until_held and link.link._hold_until:
            break
        sent.send(*(f"{number}.{part}" for part in range(50)))
        await sent.done()
    sent.answers.clear()
    sent.turns.clear()
    sent.wanted = 0
    return sent


async def test_under_load_a_round_waits_and_takes_along_what_comes_meanwhile(
    any_server: Server,
) -> None:
    # Long, so that the hold is not over before these are sent on a machine that stands still.
    pace_s = 1.0
    async with OpenLink(any_server, pace_s=pace_s) as link:
        sent = await crowded(link, until_held=True)
        started = time.perf_counter()
        for text in ("b", "c", "d"):
            sent.send(text)
            await asyncio.sleep(0)
        await sent.done()
        sent.send("e")
        await sent.done()
        assert time.perf_counter() - started >= pace_s
        assert sent.answers == [b"b", b"c", b"d", b"e"]
        *together, last = sent.turns
        assert len(set(together)) == 1
        assert last > together[0]


async def test_few_commands_do_not_wait(any_server: Server) -> None:
    """Each pace would be seen as a hold of a tenth of a second here."""
    async with OpenLink(any_server, pace_s=0.1) as link:
        sent = Round(link)
        started = time.perf_counter()
        for number in range(5):
            sent.send(str(number))
            await sent.done()
            await asyncio.sleep(0.1)
        assert not link.link._hold_until
        assert time.perf_counter() - started >= 0.5


async def test_without_a_pace_nothing_is_held(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        sent = Round(link)
        for number in range(50):
            sent.send(str(number))
            await sent.done()
        assert len(sent.answers) == 50


async def test_pushes_and_replies_keep_their_order_under_a_hold(
    any_server: Server, either: Backend
) -> None:
    async with OpenLink(any_server, pace_s=0.003) as link:
        link.link.subscribe("SSUBSCRIBE", b"c")
        await link.barrier()
        sent = await crowded(link)
        for number in range(60):
            sent.send(str(number))
            await either.client.execute_command("SPUBLISH", "c", number)
            link.send("ECHO", f"plain {number}")
        await sent.done()
        await link.barrier()
        assert sent.answers == [b"%d" % number for number in range(60)]
        pushes = [one for one in link.seen if isinstance(one, list)]
        assert pushes == [[b"smessage", b"c", b"%d" % number] for number in range(60)]
        plain = [one for one in link.seen if not isinstance(one, list)]
        assert plain == [b"plain %d" % number for number in range(60)]


async def test_where_much_arrives_unasked_it_is_read_at_the_pace(
    any_server: Server, either: Backend
) -> None:
    pace_s = 1.0  # as above
    async with OpenLink(any_server, pace_s=pace_s) as link:
        link.link.subscribe("SSUBSCRIBE", b"c")
        await link.barrier()

        async def publish() -> None:
            sent.append([b"smessage", b"c", b"%d" % len(sent)])
            await either.client.execute_command("SPUBLISH", "c", len(sent) - 1)

        sent: list[list[bytes]] = []
        while not link.link._hold_until:
            await publish()
            await until(lambda: len(link.seen) == len(sent))
        started, turns = time.perf_counter(), link.turns.begun
        for _ in range(3):
            await publish()
            await asyncio.sleep(0)
        await until(lambda: len(link.seen) == len(sent))
        assert link.seen == sent
        assert link.turns.begun == turns + 1
        assert time.perf_counter() - started >= pace_s / 2


async def test_what_was_held_when_the_link_is_lost_is_answered(any_server: Server) -> None:
    async with OpenLink(any_server, pace_s=PACE_S) as link:
        sent = await crowded(link)
        sent.send("b")
        async with any_server.client() as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with asyncio.timeout(10):
            await link.lost.wait()
        await sent.done()
        answer = sent.answers[0]
        assert answer == b"b" or isinstance(answer, RedisUnavailable)
        with pytest.raises(RedisUnavailable):
            await link.call("PING")


async def test_a_link_aborted_under_a_hold_leaves_no_descriptor(any_server: Server) -> None:
    before = descriptors()
    for _ in range(5):
        async with OpenLink(any_server, pace_s=PACE_S) as link:
            sent = await crowded(link)
            sent.send("a")
            await sent.done()
            sent.send("b")
        async with asyncio.timeout(10):
            await link.lost.wait()
    assert descriptors() <= before + 1


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_an_alarm_rings_once_for_the_last_time_it_was_set() -> None:
    loop = asyncio.get_running_loop()
    rings: list[float] = []
    rung = asyncio.Event()

    def on_time() -> None:
        rings.append(time.perf_counter())
        rung.set()

    alarm = HighResolutionTimer(loop, on_time)
    alarm.set(30)
    started = time.perf_counter()
    alarm.set(0.002)
    async with asyncio.timeout(10):
        await rung.wait()
    await asyncio.sleep(0.01)
    assert len(rings) == 1
    assert rings[0] - started >= 0.002
    rung.clear()
    alarm.set(0)
    async with asyncio.timeout(10):
        await rung.wait()
    alarm.set(0.001)
    alarm.close()
    alarm.close()
    await asyncio.sleep(0.01)
    assert len(rings) == 2
