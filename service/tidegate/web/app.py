"""The public port: sockets and event streams have their own endpoints, everything else is FastAPI.

Errors of the framework are problem+json as well.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from tidegate import __version__
from tidegate.core.ports import SubscriptionService
from tidegate.model.errors import TidegateError
from tidegate.model.settings import Settings
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.access.sessions import Admission
from tidegate.web.demo.page import demo_routes
from tidegate.web.http.cancel import cancel_routes
from tidegate.web.http.cors import CrossOrigin
from tidegate.web.http.description import description_routes
from tidegate.web.http.durable_streams import stream_routes
from tidegate.web.http.feeds import feed_routes
from tidegate.web.http.operations import ReadRoutes, reading_routes
from tidegate.web.problem import problem, problem_of, refusal_of
from tidegate.web.schemas import (
    EVENT_STREAM,
    EVENT_STREAM_PATH,
    NEEDS_VIEWER,
    VIEWER_SCHEME,
)
from tidegate.web.sse.endpoint import PREFIX as SSE_PREFIX
from tidegate.web.sse.endpoint import SseEndpoint
from tidegate.web.ws.handshake import Handshake, SocketEndpoint
from tidegate.web.ws.multiplex import PATH as MULTIPLEX_PATH
from tidegate.web.ws.multiplex import MultiplexSocket
from tidegate.web.ws.single import OperationSocket


class PublicApp:
    """An ASGI application; WebSockets do not pass through the framework."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        limiter: ConnectionLimiter,
        admission: Admission,
        cancels: CancelService,
        settings: Settings,
    ) -> None:
        handshake = Handshake(limiter, settings)
        self._sockets = OperationSocket(subscriptions, handshake, admission, cancels, settings)
        self._multiplex = MultiplexSocket(subscriptions, handshake, admission, cancels, settings)
        sse: Any = SseEndpoint(subscriptions, limiter, admission, settings)
        self._sse = ServerErrorMiddleware(sse, handler=_failed)
        self._pages = _Pages(
            needs_token=settings.server.auth == "jwt",
            title="Tidegate",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # it would lead to whatever host the request names
            exception_handlers={
                RequestValidationError: _invalid,
                HTTPException: _http_error,
                TidegateError: _refused,
                Exception: _failed,
            },
        )
        reading = ReadRoutes(subscriptions, limiter, admission, settings)
        self._pages.include_router(reading_routes(reading, settings))
        self._pages.include_router(stream_routes(subscriptions, limiter, reading, settings))
        self._pages.include_router(feed_routes(reading, subscriptions.reader, settings))
        self._pages.include_router(description_routes(self._pages.openapi, settings))
        self._pages.include_router(cancel_routes(admission, cancels, settings))
        self._over_http = CrossOrigin(self._http, settings.auth.origins)
        if settings.server.demo:
            self._pages.include_router(demo_routes(settings))

    def socket_endpoint(self, path: str) -> SocketEndpoint:
        """See `SocketApp`."""
        return self._multiplex if path == MULTIPLEX_PATH else self._sockets

    def include(self, routes: APIRouter) -> None:
        """More HTTP routes beside the viewers' ways in."""
        self._pages.include_router(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            endpoint: Any = self.socket_endpoint(scope["path"])
            await endpoint(scope, receive, send)
        else:
            await self._over_http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(SSE_PREFIX):
            await self._sse(scope, receive, send)
        else:
            pages: Any = self._pages
            await pages(scope, receive, send)


class _Pages(FastAPI):
    """Describes the event stream too, which is no route of the framework's."""

    def __init__(self, *, needs_token: bool, **options: Any) -> None:
        self._needs_token = needs_token
        #: As they were made: once included, they are not to be seen in `routes`.
        self.described: list[BaseRoute] = []
        super().__init__(**options)

    def include_router(self, router: APIRouter, **options: Any) -> None:
        self.described += router.routes
        super().include_router(router, **options)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            operation = EVENT_STREAM["get"]
            if self._needs_token:
                operation = operation | NEEDS_VIEWER
                schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
                schemes.update(VIEWER_SCHEME)
            schema["paths"][EVENT_STREAM_PATH] = {"get": operation}
        return super().openapi()


async def _invalid(_: Request, error: Exception) -> Response:
    """What the framework has refused in path, query or body."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    words = [f"{part['loc'][-1]}: {part['msg']}" for part in found]
    headers, body = problem(400, "bad_request", "; ".join(words), retry=False)
    return Response(body, 400, headers)


async def _refused(_: Request, error: Exception) -> Response:
    """One of our own, in words for who asks."""
    if not isinstance(error, TidegateError):
        raise error
    status, headers, body = problem_of(refusal_of(error))
    return Response(body, status, headers)


async def _failed(_: Request, error: Exception) -> Response:  # noqa: ARG001 - it is in the log
    """Our own mistake; what it was is nobody's business outside."""
    text = "internal error; see the gateway's log"
    headers, body = problem(500, "internal_error", text, retry=False)
    return Response(body, 500, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    status, more = 500, None
    if isinstance(error, HTTPException):
        status, more = error.status_code, error.headers
    if status == 405:
        more = {"allow": ", ".join(sorted(_methods(request)))}
    code = {404: "no_such_page", 405: "method_not_allowed"}.get(status, "refused")
    headers, body = problem(status, code, "see /openapi.json", retry=False)
    return Response(body, status, {**headers, **(more or {})})


def _methods(request: Request) -> set[str]:
    """Of all routes that have this path; the framework tells of the first only."""
    return {
        method
        for route in request.app.described
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
