"""The baseline: what a careful developer writes in an afternoon; nothing is slow on purpose.

FastAPI on uvicorn's defaults, one redis-py task per watched operation in a blocking `XREAD`, each
entry encoded once and `send_text` to every socket in turn. It reads from a concrete id, so it
loses nothing while it runs. It has none of what the gateway promises: no gap or order checks, no
bound on a slow viewer (one stuck socket holds up its whole operation), and one Redis connection
per operation.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis

KEY_PREFIX = "operation-progress:"
SUBPROTOCOL = "tidegate.v1"
HISTORY_ENTRIES = 100
# redis-py gives up on a reply after 5 s, so a longer block would fail forever.
BLOCK_MS = 2000
# redis-py's pool stops at 100 connections, and every watched operation needs one to block on.
REDIS_CONNECTIONS = 20_000


def frame_of(operation: str, entry_id: str, fields: dict[str, str]) -> str:
    """The frame of one entry, in the gateway's own shape so that both send the same bytes."""
    message = json.loads(fields["message"])
    return json.dumps({"id": entry_id, "operation": operation, **message})


class Hub:
    """The sockets of each operation and the task that reads its stream."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.viewers: dict[str, set[WebSocket]] = {}
        self.readers: dict[str, asyncio.Task[None]] = {}

    async def join(self, operation: str, socket: WebSocket) -> None:
        self.viewers.setdefault(operation, set()).add(socket)
        if operation not in self.readers:
            last = await self.last_id(operation)
            if operation not in self.readers:
                self.readers[operation] = asyncio.create_task(self.read(operation, last))

    def leave(self, operation: str, socket: WebSocket) -> None:
        viewers = self.viewers.get(operation, set())
        viewers.discard(socket)
        if not viewers:
            self.viewers.pop(operation, None)
            reader = self.readers.pop(operation, None)
            if reader is not None:
                reader.cancel()

    async def last_id(self, operation: str) -> str:
        newest: Any = await self.redis.xrevrange(KEY_PREFIX + operation, count=1)
        return str(newest[0][0]) if newest else "0"

    async def history(self, operation: str, wanted: str) -> list[tuple[str, dict[str, str]]]:
        if wanted == "none":
            return []
        count = None if wanted == "all" else int(wanted)
        newest: Any = await self.redis.xrevrange(KEY_PREFIX + operation, count=count)
        return list(reversed(newest))

    async def read(self, operation: str, last: str) -> None:
        key = KEY_PREFIX + operation
        while True:
            reply: Any = await self.redis.xread({key: last}, block=BLOCK_MS, count=100)
            for _, entries in reply:
                for entry_id, fields in entries:
                    last = entry_id
                    text = frame_of(operation, entry_id, fields)
                    for socket in list(self.viewers.get(operation, ())):
                        try:
                            await socket.send_text(text)
                        except (RuntimeError, WebSocketDisconnect):
                            self.leave(operation, socket)


def make_app(redis_url: str) -> FastAPI:
    """The whole baseline as an application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Not `decode_responses=False` and bytes everywhere: text is what a user asks for.
        async with Redis.from_url(
            redis_url, decode_responses=True, max_connections=REDIS_CONNECTIONS
        ) as redis:
            app.state.hub = Hub(redis)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def ready() -> dict[str, Any]:
        return {"ready": True}

    @app.websocket("/ws/operations/{operation}")
    async def watch(socket: WebSocket, operation: str, history: str = str(HISTORY_ENTRIES)) -> None:
        hub: Hub = app.state.hub
        await socket.accept(subprotocol=SUBPROTOCOL)
        await socket.send_json(
            {"type": "current_state", "operation": operation, "data": {"status": "unknown"}}
        )
        for entry_id, fields in await hub.history(operation, history):
            await socket.send_text(frame_of(operation, entry_id, fields))
        await hub.join(operation, socket)
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass
        finally:
            hub.leave(operation, socket)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True)
    args = parser.parse_args()
    # `warning`: one access line per connection would count against it in the connect scenario.
    uvicorn.run(make_app(args.redis), host="127.0.0.1", port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
