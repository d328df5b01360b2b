"""A gateway without Redis: two or more replicas in one event loop that share one log in memory.

It speaks the viewer protocol to the extent that a client needs: current_state, history, resume,
terminal close; and it can be told to misbehave. It stands in for what tests of the client cannot
make a real gateway do, such as refusing with a chosen code at a chosen moment.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TERMINAL = ("completed", "failed", "cancelled")


@dataclass
class Refusal:
    """What the next viewer gets instead of frames: an HTTP status, or frames and a close code."""

    close: int = 1000
    reason: str = ""
    frames: tuple[dict[str, Any], ...] = ()
    http_status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


def position(text: str) -> tuple[int, int]:
    ms, _, seq = text.partition("-")
    return int(ms), int(seq or 0)


class Replica:
    """One listener on a port of its own."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self._server: Server | None = None
        self.port = 0
        self.refusals: list[Refusal] = []
        self.asked: list[str] = []
        self.sockets: set[ServerConnection] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=["tidegate.v1"],  # type: ignore[list-item]  # a NewType of str
            process_request=self._http,
            compression=None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """As kill -9 does: no close frame, and nobody listens any more."""
        if self._server is not None:
            self._server.close(close_connections=False)
            for socket in list(self.sockets):
                socket.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def _http(self, _socket: ServerConnection, request: Request) -> Response | None:
        if self.refusals and (status := self.refusals[0].http_status) is not None:
            refusal = self.refusals.pop(0)
            response = _socket.respond(HTTPStatus(status), refusal.reason)
            for name, value in refusal.headers.items():
                response.headers[name] = value
            return response
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        if socket.request is None:  # pragma: no cover - a connection always has one
            return
        self.asked.append(socket.request.path)
        self.sockets.add(socket)
        try:
            if self.refusals:
                refusal = self.refusals.pop(0)
                for frame in refusal.frames:
                    await socket.send(json.dumps(frame))
                await socket.close(refusal.close, refusal.reason)
            else:
                await self._follow(socket, socket.request.path)
        except* ConnectionClosed:
            pass
        finally:
            self.sockets.discard(socket)

    async def _follow(self, socket: ServerConnection, path: str) -> None:
        parts = urlsplit(path)
        operation = unquote(parts.path.rpartition("/")[2])
        query = parse_qs(parts.query)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._answer_pings(socket))
            await self._send_entries(socket, operation, query.get("last_event_id", ["0-0"])[0])
            answering.cancel()

    async def _answer_pings(self, socket: ServerConnection) -> None:
        # Not `async for`, which ends without a word when the viewer closes, and leaves the sending.
        while True:
            if json.loads(await socket.recv()) == {"type": "ping"}:
                await socket.send('{"type":"pong"}')

    async def _send_entries(self, socket: ServerConnection, operation: str, cursor: str) -> None:
        gateway = self._gateway
        log = gateway.logs[operation]
        state = {
            "type": "current_state",
            "operation": operation,
            "cursor": cursor,
            "data": {"status": gateway.status(operation)},
            "history": {"sent": len(log), "available": len(log)},
        }
        await socket.send(json.dumps(state))
        sent = position(cursor)
        while True:
            for frame in list(log):
                if position(frame["id"]) > sent:
                    await socket.send(json.dumps(frame))
                    sent = position(frame["id"])
            if gateway.status(operation) in TERMINAL and position(log[-1]["id"]) <= sent:
                await socket.close(1000, "finished")
                return
            async with gateway.grown:
                await gateway.grown.wait()


class FakeGateway:
    """Use as an async context manager; ``append`` is the backend."""

    def __init__(self, replicas: int = 1) -> None:
        self.logs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.grown = asyncio.Condition()
        self.replicas = [Replica(self) for _ in range(replicas)]
        self._ms = 1_795_000_000_000

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    def status(self, operation: str) -> str:
        status = "unknown"
        for frame in self.logs[operation]:
            ends = frame["type"].removeprefix("operation_")
            status = ends if ends in TERMINAL else frame["data"].get("status", status)
        return str(status)

    async def append(
        self, operation: str, type_: str, data: dict[str, Any], *, ms: int | None = None
    ) -> str:
        self._ms = self._ms + 1 if ms is None else ms
        entry_id = f"{self._ms}-{len(self.logs[operation])}"
        frame = {"id": entry_id, "operation": operation, "type": type_, "data": data}
        self.logs[operation].append(frame)
        async with self.grown:
            self.grown.notify_all()
        return entry_id

    async def send_all(self, frame: dict[str, Any]) -> None:
        """A frame outside the log, to whoever is connected."""
        for replica in self.replicas:
            for socket in list(replica.sockets):
                await socket.send(json.dumps(frame))

    async def __aenter__(self) -> Self:
        for replica in self.replicas:
            await replica.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self.replicas:
            await replica.die()
