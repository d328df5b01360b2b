"""First requests that come at once are worked through one per iteration of the loop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.server.wire import connected, request
from tidegate.web.server.pace import RequestPace


async def test_a_burst_is_spread_over_iterations_in_order() -> None:
    pace, log = RequestPace(), list[int | str]()
    loop = asyncio.get_running_loop()
    starts = [pace.run(lambda n=n: log.append(n)) for n in range(3)]  # type: ignore[misc]
    assert starts == [True, False, False]
    while len(pace):
        loop.call_soon(log.append, "others")
        await asyncio.sleep(0)
    numbers = [n for n in log if n != "others"]
    assert numbers == [0, 1, 2]
    assert log.index("others") < log.index(2)


async def test_without_a_burst_nothing_waits() -> None:
    pace = RequestPace()
    for _ in range(5):
        assert pace.run(lambda: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_requests_that_come_at_once_are_all_answered(redis_server: Server) -> None:
    """Also one in pieces, and others although some have gone before their turn."""
    async with Replica(redis_server.url) as replica, AsyncExitStack() as stack:
        port = replica.settings.server.port
        wires = [await stack.enter_async_context(connected(port)) for _ in range(40)]
        head = request("GET", "/operations/none")
        for wire in wires:
            wire.writer.write(head[:20])
        for gone in wires[::5]:
            gone.writer.transport.abort()
        staying = [wire for index, wire in enumerate(wires) if index % 5]
        for wire in staying:
            wire.writer.write(head[20:])
        answers = [await wire.answer() for wire in staying]
        assert {answer.status for answer in answers} == {404}
        assert len(replica.runtime._public_port.pace) == 0
