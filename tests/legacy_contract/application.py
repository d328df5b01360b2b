"""An existing FastAPI application with the manager in it, under plain uvicorn, in this event loop.

Its endpoint is what an application would write: connect, read until the socket ends, disconnect. It
does not look at what `connect` returns, so a refusal must do no harm by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from tests.harness.raw_viewer import RawViewer
from tests.harness.replica import quick_settings
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tidegate.embed import RedisStreamWebSocketManager
from tidegate.embed.engine import Engine
from tidegate.gateway.channel import Channel
from tidegate.model.ids import OperationId

TIMEOUT_S = 20.0


class QuietServer(uvicorn.Server):
    """Plain uvicorn in the test's loop."""

    @classmethod
    def of(cls, app: FastAPI, port: int) -> Self:
        return cls(
            uvicorn.Config(
                app,
                host="127.0.0.1",
                port=port,
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the test run's signals are its own


class Application:
    """Use as an async context manager. `manager` is started by the test, or by `start=True`."""

    def __init__(
        self,
        redis_url: str,
        *,
        pod: str = "app-1",
        start: bool = True,
        **groups: Any,
    ) -> None:
        # Patient: a machine that stands still must neither cut viewers off nor take Redis for away.
        server = {"pod": pod, "shutdown_timeout_s": 10, **groups.pop("server", {})}
        slots = {"wait_s": 10, **groups.pop("slots", {})}
        self.settings = quick_settings(redis_url, server=server, slots=slots, **groups)
        self.manager = RedisStreamWebSocketManager(settings=self.settings)
        self.port = free_port()
        self.endpoints = 0
        self.errors: list[BaseException] = []
        self._start = start
        self._server = QuietServer.of(self._application(), self.port)
        self._serving: asyncio.Task[None] | None = None

    def _application(self) -> FastAPI:
        app = FastAPI()

        @app.websocket("/ws/operations/{operation_id}")
        async def watch(websocket: WebSocket, operation_id: str, user: str = "ann") -> None:
            self.endpoints += 1
            try:
                await self.manager.connect(websocket, operation_id, user)
                while True:
                    await websocket.receive_text()
            except WebSocketDisconnect:
                pass
            except BaseException as error:
                self.errors.append(error)
                raise
            finally:
                await self.manager.disconnect(websocket, operation_id, user)
                self.endpoints -= 1

        @app.websocket("/served/{operation_id}")
        async def serve(websocket: WebSocket, operation_id: str) -> None:
            await self.manager.serve(websocket, operation_id, "ann")

        @app.websocket("/stray")
        async def stray(websocket: WebSocket) -> None:
            """Never connected to the manager."""
            await websocket.accept()
            await self.manager.disconnect(websocket, "42", "ann")
            await self.manager.disconnect(websocket, "42", "ann")
            await websocket.send_json({"type": "disconnected"})
            await websocket.close()

        return app

    # --- addresses and viewers

    def url(self, operation: str, **query: object) -> str:
        text = f"?{urlencode(query)}" if query else ""
        return f"ws://127.0.0.1:{self.port}/ws/operations/{operation}{text}"

    def watch(self, operation: str, **query: object) -> Viewer:
        return Viewer(self.url(operation, **query))

    async def raw(self, operation: str, **query: object) -> RawViewer:
        """Reads only when told."""
        return await RawViewer.open(self.url(operation, **query), receive_buffer=4096)

    # --- looking inside

    @property
    def engine(self) -> Engine:
        engine = self.manager._engine
        assert engine is not None
        return engine

    @property
    def guests(self) -> int:
        return len(self.manager._connections)

    def connections(self, user: str) -> int:
        """Of this user, in this process."""
        return sum(guest.user == user for guest in self.manager._connections.values())

    def channel(self, operation: str) -> Channel | None:
        return self.engine.hub.channels.get(OperationId(operation))

    async def connected(self) -> None:
        """Redis is there again."""
        await until(lambda: self.engine.is_connected, "connected to Redis")

    async def disconnected(self) -> None:
        """The loss of Redis was noticed."""
        await until(lambda: not self.engine.is_connected, "noticed that Redis is away")

    async def empty(self) -> None:
        """Every socket and every slot is given back, and all endpoints have returned."""
        await until(lambda: not self.guests and not self.endpoints, "everybody has left")

    # --- life

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self._server.serve(), name="uvicorn")
        await until(lambda: self._server.started, "uvicorn has started")
        if self._start:
            assert await self.manager.startup(patience_s=TIMEOUT_S)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            async with asyncio.timeout(TIMEOUT_S):
                await self._serving
        await self.manager.shutdown()
        if kind is None:
            assert self.errors == []
