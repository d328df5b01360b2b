"""The public port: sockets to the hot endpoint, everything else to FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI

from tidegate.core.ports import Lobby
from tidegate.model.settings import Settings
from tidegate.web.admission import Admission
from tidegate.web.demo import demo_routes
from tidegate.web.door import Door
from tidegate.web.multiplex import PATH as MULTIPLEX_PATH
from tidegate.web.multiplex import MultiplexSocket
from tidegate.web.opening import Opening, Receive, Scope, Send
from tidegate.web.operation_socket import OperationSocket
from tidegate.web.sse import PREFIX as SSE_PREFIX
from tidegate.web.sse import SseEndpoint


class PublicApp:
    """An ASGI application; WebSockets do not pass through the framework."""

    def __init__(self, lobby: Lobby, door: Door, admission: Admission, settings: Settings) -> None:
        opening = Opening(door, settings)
        self._sockets = OperationSocket(lobby, opening, admission, settings)
        self._multiplex = MultiplexSocket(lobby, opening, admission, settings)
        self._sse = SseEndpoint(lobby, door, admission, settings)
        self._pages = FastAPI(title="Tidegate", openapi_url=None, docs_url=None, redoc_url=None)
        if settings.server.demo:
            self._pages.include_router(demo_routes(settings))

    def include(self, routes: APIRouter) -> None:
        """More HTTP routes beside the viewers' ways in."""
        self._pages.include_router(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            endpoint = self._multiplex if scope["path"] == MULTIPLEX_PATH else self._sockets
            await endpoint(scope, receive, send)
        elif scope["path"].startswith(SSE_PREFIX):
            await self._sse(scope, receive, send)
        else:
            pages: Any = self._pages
            await pages(scope, receive, send)
