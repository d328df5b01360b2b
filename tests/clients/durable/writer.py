"""A writer of Durable Streams in front of a replica: what the conformance tests need and a replica
does not have.

They make streams of any content type by PUT, append by POST and close them; here that is `XADD`,
each message an entry. What they read is asked of the replica: status, offsets, headers and the
order of events are the replica's own, only the content of each message is unpacked again, and the
content type is that of the stream.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import redis.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.harness.backend import GROUP, PREFIX
from tests.servers.ports import free_port

END = "operation_completed"
JSON = "application/json"
#: Headers of a request that the replica is to see.
_ASKED = (
    *("if-none-match", "origin"),
    *("access-control-request-method", "access-control-request-headers"),
)
#: Headers that belong to one connection, or to the content.
_OWN = {"content-length", "content-type", "transfer-encoding", "connection", "date", "server"}


class Writer:
    """Use as an async context manager; `url` is what the tests are given."""

    def __init__(self, replica_url: str, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._replica = httpx.AsyncClient(base_url=replica_url, timeout=60)
        self._types: dict[str, str] = {}
        methods = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
        app = Starlette(routes=[Route("/v1/stream/{name}", self._any, methods=methods)])
        port = free_port(self)
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="critical", timeout_keep_alive=600
        )
        self._server = uvicorn.Server(config)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address."""
        serving = asyncio.create_task(self._server._serve())
        try:
            while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield self.url
        finally:
            self._server.should_exit = self._server.force_exit = True
            await serving
            await self._replica.aclose()

    async def _any(self, request: Request) -> Response:
        name = request.path_params["name"]
        match request.method:
            case "PUT":
                return await self._create(name, request)
            case "POST":
                return await self._append(name, request)
            case "DELETE":
                known = self._types.pop(name, None)
                await self._client.delete(PREFIX + name)
                return Response(status_code=404 if known is None else 204)
        if request.headers.get("access-control-request-method"):
            return await self._forward(name, request)
        if request.query_params.get("live") == "sse":
            return await self._events(name, request)
        return await self._forward(name, request)

    # -- writing

    async def _create(self, name: str, request: Request) -> Response:
        content_type = request.headers.get("content-type", "application/octet-stream")
        if name in self._types:
            same = self._types[name].lower() == content_type.lower()
            return Response(status_code=200 if same else 409)
        self._types[name] = content_type
        await self._client.xgroup_create(PREFIX + name, GROUP, "0", mkstream=True)
        tail = await self._write(name, await request.body(), request)
        headers = {"location": str(request.url), "content-type": content_type}
        return Response(status_code=201, headers=headers | tail)

    async def _append(self, name: str, request: Request) -> Response:
        if name not in self._types:
            return Response(status_code=404)
        return Response(
            status_code=204, headers=await self._write(name, await request.body(), request)
        )

    async def _write(self, name: str, body: bytes, request: Request) -> dict[str, str]:
        """Headers of the stream's end behind it."""
        entries: list[dict[str, Any]] = []
        if body and self._types[name].startswith(JSON):
            value = json.loads(body)
            values = value if isinstance(value, list) else [value]
            entries += [{"type": "item", "data": {"value": one}} for one in values]
        elif body:
            entries.append({"type": "item", "data": {"bytes": base64.b64encode(body).decode()}})
        if request.headers.get("stream-closed") == "true":
            entries.append({"type": END, "data": {}})
        if not entries:
            return await self._tail(name)
        async with self._client.pipeline(transaction=True) as pipe:
            for entry in entries:
                _ = pipe.xadd(PREFIX + name, {"message": json.dumps(entry)})
            ids = await pipe.execute()
        ms, _, seq = ids[-1].decode().partition("-")
        written = f"{int(ms):020d}_{int(seq):020d}"
        # Who has an answer reads what was written: a replica follows within milliseconds.
        while (tail := await self._tail(name)).get("stream-next-offset", "") < written:  # noqa: ASYNC110
            await asyncio.sleep(0.002)  # the replica tells nobody
        return tail

    async def _tail(self, name: str) -> dict[str, str]:
        response = await self._replica.head(f"/streams/{name}")
        return _headers_of(response)

    # -- reading

    async def _forward(self, name: str, request: Request) -> Response:
        response = await self._replica.request(
            request.method,
            f"/streams/{name}",
            params=request.url.query,
            headers=_asked_with(request),
        )
        headers = _headers_of(response)
        if response.status_code != 200:
            return Response(response.content, response.status_code, headers)
        content_type = self._types[name]
        headers["content-type"] = content_type
        body = b"" if request.method == "HEAD" else _unpacked(response.content, content_type)
        return Response(body, 200, headers)

    async def _events(self, name: str, request: Request) -> Response:
        asked = self._replica.build_request(
            "GET",
            f"/streams/{name}",
            params=request.url.query,
            headers=_asked_with(request),
        )
        response = await self._replica.send(asked, stream=True)
        headers = _headers_of(response)
        if response.status_code != 200:
            body = await response.aread()
            return Response(body, response.status_code, headers)
        content_type = self._types[name]
        is_text = content_type.startswith(("text/", JSON))
        headers["content-type"] = "text/event-stream"
        if not is_text:
            headers["stream-sse-data-encoding"] = "base64"

        async def unpacked() -> AsyncIterator[bytes]:
            rest = b""
            try:
                async for data in response.aiter_raw():
                    *events, rest = (rest + data).split(b"\n\n")
                    # Together, as they came: the tests look at what is read at once.
                    yield b"".join(
                        [_event(event, content_type, is_text=is_text) for event in events]
                    )
            finally:
                await response.aclose()

        answer = StreamingResponse(unpacked(), 200, headers)
        answer.raw_headers = [
            (key.encode(), value.encode("latin-1")) for key, value in headers.items()
        ]
        return answer


def _asked_with(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _ASKED if name in request.headers}


def _headers_of(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in _OWN}


def _values(data: bytes) -> list[Any]:
    return [frame["data"] for frame in json.loads(data) if frame["type"] != END]


def _unpacked(data: bytes, content_type: str) -> bytes:
    values = _values(data)
    if content_type.startswith(JSON):
        return json.dumps([value["value"] for value in values]).encode()
    return b"".join(base64.b64decode(value["bytes"]) for value in values)


def _event(event: bytes, content_type: str, *, is_text: bool) -> bytes:
    head, _, data = event.partition(b"\ndata:")
    if head != b"event: data":
        return event + b"\n\n"
    body = _unpacked(data, content_type)
    if not body or body == b"[]":
        return b""
    if not is_text:
        body = base64.b64encode(body)
    # What ends a line for a reader of events would end the event.
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"\ndata:" + line for line in lines) + b"\n\n"
