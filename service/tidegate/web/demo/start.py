"""``POST /demo/operations``: starts an operation from the demo page.

It exists only with ``server.demo`` and without authentication. It appends a request to a stream
that the demo backend reads. The id is chosen here, so that no one can write to an operation of
someone else. Only pages of the demo may call it, at a limited rate.
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Query, Request, Response

from tidegate.core.token_bucket import TokenBucket
from tidegate.core.writes import Writer
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.web.auth.host import HostRules
from tidegate.web.demo.page import replica_urls
from tidegate.web.demo.requests import LONGEST_S, REQUESTS, SHORTEST_S, Kind, Wanted
from tidegate.web.problem import Forbidden, problem

PER_S = 0.5
BURST = 10


def start_routes(writer: Writer, settings: Settings) -> APIRouter:
    """The route; none where it has no business."""
    router = APIRouter(include_in_schema=False)
    server = settings.server
    if not server.demo or server.auth != "none":
        return router
    hosts = HostRules(server)
    bucket = TokenBucket(PER_S, BURST)

    @router.post("/demo/operations")
    async def start(
        request: Request,
        kind: Kind = "stages",
        seconds: Annotated[int, Query(ge=SHORTEST_S, le=LONGEST_S)] = 20,
    ) -> Response:
        hosts.check(request.scope["headers"])
        check_origin(request, server.demo_replicas)
        if not bucket.take(time.monotonic()):
            text = "too many requests; retry in a moment"
            headers, body = problem(429, "too_many_requests", text, retry=True)
            return Response(body, 429, headers)
        wanted = Wanted(OperationId(f"demo-{secrets.token_hex(5)}"), kind, seconds)
        await writer.append(REQUESTS, [orjson.dumps(wanted.message())])
        body = orjson.dumps({"operation": wanted.operation})
        return Response(body, 201, {"Cache-Control": "no-store"}, media_type="application/json")

    return router


def check_origin(request: Request, replicas: tuple[str, ...]) -> None:
    """Whether a page of this replica, or of another of the demo, asks. Every browser says so with
    each POST, and no page can have it say something else.

    Raises:
        Forbidden: another page, or no browser.
    """
    host = request.headers.get("host", "")
    given = request.headers.getlist("origin")
    if len(given) == 1:
        if urlsplit(given[0]).netloc == host and given[0].startswith(("http://", "https://")):
            return
        if given[0] in replica_urls(replicas, host):
            return
    raise Forbidden("origin", "only pages of this demo may start an operation")
