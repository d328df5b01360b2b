"""Everyday load: operations that are published, viewers of every kind, all for as long as it runs.

The viewers are real clients and do what good ones do: they come back after every loss. What they
see is judged elsewhere (tests/faults); here they only make the gateway work.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import redis.asyncio
from redis.exceptions import RedisError
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.faults.replicas import Replica
from tidegate.client.viewer import Viewer
from tidegate.model.errors import TidegateError
from tidegate.redis.batches import end_if_cancelled

SECRET = "the secret of these tests, of more than thirty-two bytes"
PREFIX = "operation-progress:"
LANES = 4
VIEWERS_EACH = 4
ENTRIES_PER_S = 25.0
ENTRIES = 120
RETRY_S = 0.2


def token(user: str, *, age_s: float = 0.0) -> str:
    """A token that is good for ten minutes, `age_s` ago."""
    return jwt.encode({"sub": user, "exp": int(time.time() - age_s) + 600}, SECRET, "HS256")


class Crowd:
    """Use `open_crowd`."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        replicas: Sequence[Replica],
        publish_token: str,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.client = client
        self.replicas = replicas
        self._publish_token = publish_token
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []

    @property
    def urls(self) -> list[str]:
        return [f"ws://{replica.host}:{replica.port}" for replica in self.replicas]

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it in the background, to the end of the crowd at the latest."""
        try:
            task = self._tasks.create_task(work)
        except RuntimeError:  # the crowd is being ended
            work.close()
            raise
        self._running.append(task)
        return task

    def start(self) -> None:
        for lane in range(LANES):
            _ = self.keep(self._lane(lane))
        _ = self.keep(self._publishing_over_http())
        _ = self.keep(self._reading_pages())

    def end(self) -> None:
        for task in self._running:
            task.cancel()

    # --- backends

    async def add(self, operation: str, type_: str = "progress", **data: Any) -> bool:
        """A plain XADD; False while Redis is away."""
        try:
            message = json.dumps({"type": type_, "data": data})
            trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
            await self.client.xadd(PREFIX + operation, {"message": message, "traceparent": trace})
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(RETRY_S)
            return False
        end_if_cancelled()
        return True

    async def _lane(self, lane: int) -> None:
        for number in itertools.count():
            operation = f"op-{lane}-{number}"
            viewers = [
                self.keep(self.watch(operation, f"user-{lane}-{place}", place))
                for place in range(VIEWERS_EACH)
            ]
            viewers.append(self.keep(self._many(operation, lane)))
            viewers.append(self.keep(self._events(operation, lane)))
            for n in range(ENTRIES):
                await self.add(operation, n=n, text="x" * 400)
                await asyncio.sleep(1 / ENTRIES_PER_S)
            while not await self.add(operation, "operation_completed", status="completed"):
                pass
            await asyncio.wait(viewers)

    async def _publishing_over_http(self) -> None:
        headers = {"Authorization": f"Bearer {self._publish_token}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=2) as client:
            for n in itertools.count():
                replica = self.replicas[n % len(self.replicas)]
                url = f"http://{replica.host}:{replica.port}/operations/op-http/events"
                try:
                    await client.post(url, json={"type": "progress", "data": {"n": n}})
                    viewer = {"Authorization": f"Bearer {token('stop')}"}
                    await client.post(url.replace("/events", "/cancel"), headers=viewer)
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(RETRY_S)

    # --- viewers

    async def watch(
        self, operation: str, user: str, place: int = 0, seated: asyncio.Event | None = None
    ) -> None:
        """One operation by WebSocket, to its end; the client answers acknowledgements."""
        urls = self.urls[place % 2 :] + self.urls[: place % 2]
        try:
            async with Viewer(operation, urls, token=lambda: token(user), history="all") as viewer:
                async for _ in viewer:
                    if seated is not None:
                        seated.set()
        except TidegateError:
            pass

    async def seat(self, operation: str, user: str, place: int = 0) -> asyncio.Task[None]:
        """A viewer that has its state, so that what is published from now on is live for it."""
        seated = asyncio.Event()
        task = self.keep(self.watch(operation, user, place, seated))
        await seated.wait()
        return task

    async def _many(self, operation: str, lane: int) -> None:
        """A multiplexed socket: this operation and the one that is published over HTTP."""
        for n in itertools.count():
            url = self.urls[n % len(self.urls)]
            headers = {"Authorization": f"Bearer {token(f'many-{lane}')}"}
            try:
                async with connect(
                    f"{url}/ws", additional_headers=headers, proxy=None, close_timeout=0.5
                ) as socket:
                    for name in (operation, "op-http"):
                        await socket.send(json.dumps({"type": "watch", "operation": name}))
                    async for text in socket:
                        frame = json.loads(text)
                        if frame["type"] == "unwatched" and frame["operation"] == operation:
                            return
            except (OSError, TimeoutError, WebSocketException):
                pass
            await asyncio.sleep(RETRY_S)

    async def _events(self, operation: str, lane: int) -> None:
        """Server-sent events, with the position after a loss."""
        last: dict[str, str] = {}
        for n in itertools.count():
            replica = self.replicas[n % len(self.replicas)]
            url = f"http://{replica.host}:{replica.port}/sse/operations/{operation}"
            headers = {"Authorization": f"Bearer {token(f'sse-{lane}')}", **last}
            try:
                async with (
                    httpx.AsyncClient(trust_env=False, timeout=5) as client,
                    client.stream("GET", url, headers=headers) as answer,
                ):
                    async for line in answer.aiter_lines():
                        if line == "event: end":
                            return
                        if line.startswith("id: "):
                            last["Last-Event-ID"] = line[4:]
            except httpx.HTTPError:
                pass
            await asyncio.sleep(RETRY_S)

    async def _reading_pages(self) -> None:
        """Long polls of the operation that is published over HTTP."""
        after = "0-0"
        headers = {"Authorization": f"Bearer {token('poll')}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=5) as client:
            for n in itertools.count():
                replica = self.replicas[n % len(self.replicas)]
                url = f"http://{replica.host}:{replica.port}/operations/op-http/events"
                try:
                    answer = await client.get(url, params={"after": after, "wait": 1})
                    if answer.status_code == 200:
                        after = answer.json()["cursor"]
                        continue
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def open_crowd(
    client: redis.asyncio.Redis, replicas: Sequence[Replica], publish_token: str
) -> AsyncIterator[Crowd]:
    """A crowd at work; gone at the end."""
    async with asyncio.TaskGroup() as tasks:
        crowd = Crowd(client, replicas, publish_token, tasks)
        crowd.start()
        try:
            yield crowd
        finally:
            crowd.end()
