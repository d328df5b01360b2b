"""A feed as a live list, on real replicas."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.conftest import Make
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token
from tidegate import FeedViewer
from tidegate.client.feed_list import FeedOperation
from tidegate.model.errors import (
    GatewayUnreachable,
    InvalidInput,
    SignInRequired,
    WatchForbidden,
)

Operations = tuple[FeedOperation, ...]


def url_of(replica: Replica) -> str:
    return f"ws://127.0.0.1:{replica.settings.server.port}"


def statuses(operations: Operations) -> dict[str, str]:
    return {one.operation: one.state.status for one in operations}


async def until(feed: FeedViewer, holds: Callable[[Operations], Any]) -> Operations:
    async for operations in feed:
        if holds(operations):
            return operations
    raise AssertionError("the feed has ended")


async def test_operations_of_a_user_over_one_socket_and_two_replicas(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url)
    await publisher.start("a", feed="user:7", title="Export")
    async with Replica(redis_server.url, pod="pod-2") as two:
        async with Replica(redis_server.url) as one:
            feed = FeedViewer("user:7", [url_of(one), url_of(two)], keep_ended_s=3600)
            shown = await until(feed, lambda list_: statuses(list_) == {"a": "running"})
            assert shown[0].title == "Export"
            await publisher.start("b", feed="user:7")
            await until(feed, lambda list_: list(statuses(list_)) == ["b", "a"])
            await publisher.progress("a", 0.5)
            await until(feed, lambda list_: list_[-1].state.progress == 0.5)
            assert len(one.runtime._limiter) == 1
        await publisher.completed("a")
        await publisher.start("c", feed="user:7")
        shown = await until(
            feed, lambda list_: statuses(list_).get("a") == "completed" and len(list_) == 3
        )
        assert [one.operation for one in shown] == ["c", "b", "a"]
        await feed.close()
        await feed.close()


async def test_an_ended_operation_falls_out_and_others_are_not_shown(
    redis_server: Server, backend: Backend
) -> None:
    for operation in ("mine", "secret"):
        await backend.publish(operation, status="running")
        data = {"operation": operation}
        message = json.dumps({"type": "listed", "data": data})
        await backend.add("user:7", {"message": message})
    async with guarded(redis_server, source={"kind": "claims"}) as replica:
        text = token("ann", operations=["user:7", "mine"])
        async with FeedViewer(
            "user:7", url_of(replica), token=lambda: text, keep_ended_s=0
        ) as feed:
            await until(feed, lambda list_: statuses(list_) == {"mine": "running"})
            await backend.finish("mine")
            await until(feed, lambda list_: list_ == ())
        other = token("bob", operations=["mine"])
        for secret, error in ((other, WatchForbidden), (None, SignInRequired)):
            with pytest.raises(error):
                await anext(FeedViewer("user:7", url_of(replica), token=secret))


async def test_addresses_and_numbers_that_cannot_be() -> None:
    for feed, urls, more in (
        ("user 7", "ws://127.0.0.1", {}),
        ("user:7", "ftp://127.0.0.1", {}),
        ("user:7", [], {}),
        ("user:7", "ws://127.0.0.1", {"limit": 0}),
    ):
        with pytest.raises(InvalidInput):
            FeedViewer(feed, urls, **more)  # type: ignore[arg-type]
    nobody = FeedViewer("user:7", f"ws://127.0.0.1:{free_port()}", patience_s=0)
    with pytest.raises(GatewayUnreachable):
        await anext(nobody)
