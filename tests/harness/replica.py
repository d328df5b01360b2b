"""One replica of the gateway in the test's own event loop, on real ports and a real Redis.

It is the same `Runtime` that `tidegate serve` runs, so nothing is wired by the tests; only waits
are short. Being in this process it can be looked into (`hub`, `feed`); what a crash does is tested
with processes, elsewhere. Nothing of it is left when the `async with` ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlencode

import httpx

import tidegate.runtime.replica as wiring
from tests.harness.plain_http import plain_client
from tests.harness.raw_viewer import RawViewer
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.ports import free_port, is_free
from tidegate.gateway.channel import Channel
from tidegate.gateway.hub import Hub
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis.feed import RedisFeed
from tidegate.runtime.replica import Replica as Runtime

TIMEOUT_S = 20.0
#: Waits that the defaults size for people.
_QUICK: dict[str, dict[str, Any]] = {
    "server": {"auth": "none", "shutdown_timeout_s": 1},
    "redis": {"backoff_min_s": 0.02, "backoff_max_s": 0.2},
    "topic": {"terminal_grace_s": 0.1, "expired_grace_s": 0.3},
    "viewer": {"close_timeout_s": 1},
    "drain": {"delay_s": 0, "window_s": 0},
}


def quick_settings(redis_url: str, **groups: Mapping[str, Any]) -> Settings:
    """Settings for a test: `quick_settings(url, topic={"linger_s": 0})`."""
    merged = {name: dict(values) for name, values in _QUICK.items()}
    merged["redis"]["url"] = redis_url
    for name, values in groups.items():
        merged.setdefault(name, {}).update(values)
    return Settings.model_validate(merged)


class Replica:
    """Use as an async context manager."""

    def __init__(
        self,
        redis_url: str,
        *,
        pod: str = "pod-1",
        sender: str = "auto",
        wait_for_redis: bool = True,
        **groups: Mapping[str, Any],
    ) -> None:
        server = {
            "pod": pod,
            "sender": sender,
            "port": free_port(self),
            "admin_port": free_port(self),
            **groups.pop("server", {}),
        }
        self.settings = quick_settings(redis_url, server=server, **groups)
        self._wait_for_redis = wait_for_redis
        self.runtime: Runtime
        self._running: asyncio.Task[None] | None = None

    # --- addresses

    def url(self, operation: str, **query: object) -> str:
        """Of an operation's socket; `query` may hold `last_event_id` and `history`."""
        path = f"/ws/operations/{operation}"
        given = {name: str(value) for name, value in query.items() if value is not None}
        return f"ws://127.0.0.1:{self.settings.server.port}{path}" + (
            f"?{urlencode(given)}" if given else ""
        )

    # --- viewers

    def watch(self, operation: str, **query: object) -> Viewer:
        """A viewer, as an async context manager."""
        return Viewer(self.url(operation, **query))

    async def raw(self, operation: str, *, receive_buffer: int = 0, **query: object) -> RawViewer:
        """A connected viewer that reads and answers only when told."""
        return await RawViewer.open(self.url(operation, **query), receive_buffer=receive_buffer)

    # --- looking inside

    @property
    def hub(self) -> Hub:
        return self.runtime._node.hub

    @property
    def feed(self) -> RedisFeed:
        return self.runtime._node.feed

    def channel(self, operation: str) -> Channel | None:
        return self.hub.channels.get(OperationId(operation))

    def counts(self) -> dict[str, int]:
        """What happened on the link to the only primary."""
        return self.feed.stats()[0].counts

    @property
    def viewers(self) -> int:
        stats = self.hub.stats()
        return stats.live + stats.lagging + stats.catching_up

    async def admin(self, path: str) -> httpx.Response:
        port = self.settings.server.admin_port
        async with plain_client(f"http://127.0.0.1:{port}") as client:
            return await client.get(path)

    # --- life

    async def start(self) -> Self:
        # It would freeze the garbage of the whole test run and slow its collections down for ever.
        wiring._settle_garbage = lambda: None
        self.runtime = Runtime(self.settings)
        self._running = asyncio.create_task(self.runtime.run(), name=self.settings.server.pod)
        if self._wait_for_redis:
            await until(lambda: self.feed.is_connected or self._ended, "connected to Redis")
        port = self.settings.server.port
        await until(lambda: self._ended or not is_free(port), "listening")
        if self._ended:
            await self._running
        return self

    @property
    def _ended(self) -> bool:
        return self._running is None or self._running.done()

    async def stop(self) -> None:
        """As SIGTERM does. Raises what went wrong inside."""
        if self._running is not None:
            self.runtime.stop()
            running, self._running = self._running, None
            async with asyncio.timeout(TIMEOUT_S):
                await running

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
