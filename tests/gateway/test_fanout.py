"""Passes over the sockets: so many writes a turn, round robin, and what is held back together."""

from __future__ import annotations

import asyncio

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import Stage
from tests.harness.clock import settle
from tidegate.gateway.fanout import WRITES_PER_TURN, Fanout


class Crowd:
    """So many sockets, and items for each of them."""

    def __init__(self, name: str, sockets: int, log: list[tuple[str, int]]) -> None:
        self.name, self.sockets, self.log = name, sockets, log
        self.left = 0

    def send_some(self, at_most: int) -> int:
        sent = min(at_most, self.left)
        self.left -= sent
        self.log.append((self.name, sent))
        return sent

    @property
    def has_more(self) -> bool:
        return self.left > 0


async def test_after_500_writes_the_loop_gets_a_turn() -> None:
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(1201)]
        reached: list[int] = []
        before = [socket.writes for socket in sockets]

        def look() -> None:
            reached.append(sum(s.writes - b for s, b in zip(sockets, before, strict=True)))
            if reached[-1] < len(sockets):
                asyncio.get_running_loop().call_soon(look)

        stage.redis.hold = True
        stage.redis.write("42")
        stage.redis.arrive()
        look()
        await stage.rest()
        assert sorted(set(reached)) == [WRITES_PER_TURN, 2 * WRITES_PER_TURN, 1201]
        assert all(len(socket.ids) == 1 for socket in sockets)


async def test_what_comes_meanwhile_is_joined_into_the_next_pass() -> None:
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(WRITES_PER_TURN + 1)]
        stage.redis.hold = True
        stage.redis.write("42")
        stage.redis.arrive()
        for _ in range(20):
            stage.redis.write("42")
            stage.redis.arrive()
        assert stage.channel().stats().outbox == 1
        await stage.rest()
        assert {socket.writes for socket in sockets} == {1 + 2}
        assert all(len(socket.ids) == 21 for socket in sockets)


async def test_a_crowd_does_not_hold_up_the_others() -> None:
    loop = asyncio.get_running_loop()
    log: list[tuple[str, int]] = []
    fanout = Fanout(loop)
    large, small = Crowd("large", 5000, log), Crowd("small", 3, log)
    large.left, small.left = 1800, 3
    fanout.wake(large)
    fanout.wake(small)
    await settle()
    assert log == [("large", 500), ("small", 3), ("large", 497), ("large", 500), ("large", 303)]
    assert fanout.turns == 4


async def test_what_one_read_brings_is_sent_at_its_end_without_another_round() -> None:
    loop = asyncio.get_running_loop()
    log: list[tuple[str, int]] = []
    fanout, crowd = Fanout(loop), Crowd("a", 1, log)
    fanout.begin()
    crowd.left = 3
    fanout.wake(crowd)
    await asyncio.sleep(0)
    assert log == [], "held back"
    fanout.end()
    assert log == [("a", 3)]
    fanout.begin()
    fanout.end()
    assert fanout.turns == 1, "nothing had come"


async def test_a_turn_that_is_due_is_not_taken_twice() -> None:
    log: list[tuple[str, int]] = []
    fanout, crowd = Fanout(asyncio.get_running_loop()), Crowd("a", 1, log)
    crowd.left = WRITES_PER_TURN + 1
    fanout.wake(crowd)
    await asyncio.sleep(0)
    fanout.begin()
    fanout.end()
    assert log == [("a", WRITES_PER_TURN)]
    await asyncio.sleep(0)
    assert log[1:] == [("a", 1)]


async def test_viewers_that_leave_in_a_pass_are_written_to_no_more() -> None:
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(WRITES_PER_TURN + 200)]
        stage.redis.hold = True
        stage.redis.write("42")
        stage.redis.arrive()
        late: list[FakeSocket] = [socket for socket in sockets if not socket.ids]
        assert len(late) == 200
        for socket in late[:100]:
            socket.vanish()
            socket.break_off()
        await stage.rest()
        assert sum(len(socket.ids) for socket in sockets) == len(sockets) - 100
