"""One timer for all sockets: who is pinged when, and that nothing of a closed one stays."""

import asyncio
import weakref

import pytest

from tests.harness.clock import START_S, run
from tidegate.web.ws.keepalive import NOWHERE, SLOT_S, Keepalive

INTERVAL_S, TIMEOUT_S = 20.0, 5.0


class Socket:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.slot = NOWHERE
        self.pings: list[tuple[float, bytes]] = []
        self.is_closing = False
        self.timed_out: float | None = None

    def send_ping(self, payload: bytes) -> bool:
        if not self.is_closing:
            self.pings.append((self.loop.time() - START_S, payload))
        return not self.is_closing

    def keepalive_timeout(self) -> None:
        self.timed_out = self.loop.time() - START_S


def about(seconds: float) -> object:
    """At this time, or up to two slots later."""
    return pytest.approx(seconds + SLOT_S, abs=SLOT_S + 0.001)


@pytest.mark.parametrize("error", [RuntimeError("closed"), OSError("reset"), ValueError("ours")])
def test_one_that_cannot_be_pinged_does_not_keep_others_from_it(error: Exception) -> None:
    class Broken(Socket):
        def send_ping(self, payload: bytes) -> bool:
            raise error

    async def main() -> None:
        mishaps: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, said: mishaps.append(said["exception"])
        )
        keepalive = Keepalive(INTERVAL_S, TIMEOUT_S)
        sockets = [Broken(), Socket(), Broken(), Socket()]
        for socket in sockets:
            keepalive.start(socket)
        await asyncio.sleep(INTERVAL_S + 1)
        assert [len(socket.pings) for socket in sockets] == [0, 1, 0, 1]
        await asyncio.sleep(TIMEOUT_S)
        assert all(socket.timed_out is not None for socket in sockets)
        assert mishaps == ([error, error] if isinstance(error, ValueError) else [])

    run(main())


def test_one_that_answers_is_pinged_in_each_interval() -> None:
    async def main() -> None:
        keepalive, socket = Keepalive(INTERVAL_S, TIMEOUT_S), Socket()
        keepalive.start(socket)
        for turn in range(1, 4):
            await asyncio.sleep(INTERVAL_S + 2 * SLOT_S)
            at, payload = socket.pings[-1]
            assert len(socket.pings) == turn
            assert at <= turn * (INTERVAL_S + 2 * SLOT_S)
            assert keepalive.answered(socket, payload)
            assert not keepalive.answered(socket, payload), "a second pong is none that was awaited"
        assert socket.timed_out is None

    run(main())


def test_one_that_does_not_answer_is_given_up_once() -> None:
    async def main() -> None:
        keepalive, silent, late = Keepalive(INTERVAL_S, TIMEOUT_S), Socket(), Socket()
        keepalive.start(silent)
        keepalive.start(late)
        await asyncio.sleep(INTERVAL_S + 1)
        assert keepalive.answered(late, late.pings[0][1])
        await asyncio.sleep(2 * TIMEOUT_S)
        assert silent.timed_out == about(INTERVAL_S + TIMEOUT_S)
        assert late.timed_out is None
        assert len(silent.pings) == 1

    run(main())


def test_nothing_is_kept_of_one_that_has_left() -> None:
    async def main() -> None:
        keepalive = Keepalive(INTERVAL_S, TIMEOUT_S)
        waits, pinged, closing = Socket(), Socket(), Socket()
        keepalive.start(pinged)
        await asyncio.sleep(INTERVAL_S + 1)
        keepalive.start(closing)
        closing.is_closing = True
        await asyncio.sleep(INTERVAL_S)
        keepalive.start(waits)
        for socket in (waits, pinged, closing):
            keepalive.stop(socket)
            keepalive.stop(socket)
        gone = weakref.ref(waits)
        del waits, socket
        assert gone() is None
        await asyncio.sleep(3 * INTERVAL_S)
        assert pinged.timed_out is not None
        assert (len(pinged.pings), closing.pings) == (1, [])

    run(main())


def test_many_of_the_same_moment_are_pinged_together_and_each_once() -> None:
    async def main() -> None:
        keepalive, sockets = Keepalive(INTERVAL_S, TIMEOUT_S), [Socket() for _ in range(500)]
        for socket in sockets:
            keepalive.start(socket)
        for socket in sockets[::2]:
            keepalive.stop(socket)
        await asyncio.sleep(INTERVAL_S + 1)
        assert [len(socket.pings) for socket in sockets] == [0, 1] * 250
        assert all(socket.pings[0][0] == about(INTERVAL_S) for socket in sockets[1::2])

    run(main())
