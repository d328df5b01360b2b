"""The public port: sockets to the hot endpoint, everything else to FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from tidegate.core.ports import Lobby
from tidegate.model.settings import Settings
from tidegate.web.demo import demo_routes
from tidegate.web.door import Door
from tidegate.web.multiplex import PATH as MULTIPLEX_PATH
from tidegate.web.multiplex import MultiplexSocket
from tidegate.web.operation_socket import OperationSocket, Receive, Scope, Send


class PublicApp:
    """An ASGI application; WebSockets do not pass through the framework."""

    def __init__(self, lobby: Lobby, door: Door, settings: Settings) -> None:
        self._sockets = OperationSocket(lobby, door, settings)
        self._multiplex = MultiplexSocket(lobby, door, settings)
        self._pages = FastAPI(title="Tidegate", openapi_url=None, docs_url=None, redoc_url=None)
        if settings.server.demo:
            self._pages.include_router(demo_routes(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            endpoint = self._multiplex if scope["path"] == MULTIPLEX_PATH else self._sockets
            await endpoint(scope, receive, send)
        else:
            pages: Any = self._pages
            await pages(scope, receive, send)
