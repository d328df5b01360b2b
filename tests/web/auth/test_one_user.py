"""What one user could do to all others by way of the `http` source."""

from __future__ import annotations

import asyncio
from itertools import count

from tests.harness.waiting import until
from tests.web.auth.http_server import HttpServer, Reply, Request
from tests.web.auth.test_http_source import ANN, BOB, JOB, TOKEN, YES, asking, refusal
from tidegate.model.ids import OperationId
from tidegate.web.auth.breaker import BreakerState
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.problem import SourceFailed

MALLORY = Identity("mallory")


async def by_operation(request: Request) -> Reply:
    return YES if request.path == f"/{JOB}" else Reply(500)


async def test_one_user_with_ids_that_fail_shut_everybody_out() -> None:
    async with HttpServer(by_operation) as server, asking(server.url) as source:
        for number in range(50):
            assert await refusal(source, MALLORY, f"bad-{number}") is SourceFailed
        assert source.breaker.state is BreakerState.CLOSED
        assert (await source.check(ANN, TOKEN, JOB)).state


async def test_one_user_that_is_told_to_slow_down_shut_everybody_out() -> None:
    async with HttpServer(Reply(429)) as server, asking(server.url, breaker_failures=1) as source:
        for number in range(50):
            assert await refusal(source, Identity(f"user-{number}")) is SourceFailed
        assert source.breaker.state is BreakerState.CLOSED
        server.answer = YES
        assert (await source.check(ANN, TOKEN, JOB)).state


async def test_32_slow_ids_of_one_user_took_all_turns() -> None:
    asked, end = count(), asyncio.Event()
    slow = 0

    async def answer(request: Request) -> Reply:
        nonlocal slow
        if request.path != f"/{JOB}":
            slow = next(asked) + 1
            await end.wait()
        return YES

    async with (
        HttpServer(answer) as server,
        asking(server.url, max_requests=32) as source,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(64):
            operation = OperationId(f"slow-{number}")
            tasks.create_task(source.check(MALLORY, TOKEN, operation))
        await until(lambda: slow == 8, "the share of one user is used up")
        # Were there no turn, this would wait for the 30 s of its time-out and fail.
        assert (await source.check(ANN, TOKEN, JOB)).state
        assert (await source.check(BOB, TOKEN, JOB)).state
        assert slow == 8
        end.set()


async def test_waiting_for_ones_own_turn_was_a_failure_of_the_backend() -> None:
    async with (
        HttpServer(YES) as server,
        asking(server.url, max_requests=4, timeout_s=0.1, breaker_failures=1) as source,
    ):
        async with source._fetcher._turns.turn(MALLORY.user):
            assert await refusal(source, MALLORY, "waits") is SourceFailed
        assert source.breaker.state is BreakerState.CLOSED
        assert not server.requests


async def test_without_tokens_operations_are_what_tells_viewers_apart() -> None:
    end = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await end.wait()
        return YES

    async with HttpServer(slow) as server, asking(server.url, max_requests=8) as source:
        async with asyncio.TaskGroup() as tasks:
            for number in range(8):
                operation = OperationId(f"job-{number}")
                tasks.create_task(source.check(ANONYMOUS, None, operation))
            await until(lambda: len(server.requests) == 8, "all turns are used")
            end.set()
        server.answer = Reply(500)
        for number in range(20):
            assert await refusal(source, ANONYMOUS, f"bad-{number}") is SourceFailed
        assert source.breaker.state is BreakerState.OPEN
