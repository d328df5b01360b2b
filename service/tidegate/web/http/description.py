"""``GET /docs`` and ``GET /asyncapi.json``: what the public port offers, for people and programs.

The page is plain HTML, made once from the two descriptions: no script, no style, nothing from
elsewhere, under the strictest policy. A browser of OpenAPI documents (Swagger UI and others) needs
several megabytes and inline styles, and opens `/openapi.json` just as well from where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, Response

from tidegate import __version__
from tidegate.model.settings import Settings
from tidegate.web.frame_schemas import asyncapi

_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def description_routes(openapi: Callable[[], dict[str, Any]], settings: Settings) -> APIRouter:
    """Both routes; ``openapi`` gives the description of the others."""
    sockets = asyncapi(__version__, needs_token=settings.server.auth == "jwt")
    as_json = orjson.dumps(sockets)
    router = APIRouter(include_in_schema=False)

    @router.get("/asyncapi.json")
    async def description_of_sockets() -> Response:
        return Response(as_json, media_type="application/json")

    @router.get("/docs")
    async def page() -> Response:
        return Response(
            "".join(_page(openapi(), sockets)), media_type="text/html", headers=_HEADERS
        )

    return router


def _page(http: dict[str, Any], sockets: dict[str, Any]) -> Iterator[str]:
    version = escape(str(sockets["info"]["version"]))
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark"><title>Tidegate API</title></head><body>'
        f"<h1>Tidegate {version}: API for viewers</h1>"
        '<p>For programs: <a href="openapi.json">openapi.json</a> (HTTP) and '
        '<a href="asyncapi.json">asyncapi.json</a> (WebSockets). Any viewer of OpenAPI or AsyncAPI '
        "documents can open them.</p>"
    )
    yield "<h2>HTTP</h2><table><tr><th>method<th>path<th>description"
    for path, methods in http["paths"].items():
        for method, operation in methods.items():
            summary = operation.get("summary", "")
            yield from _row(method.upper(), path, summary)
    yield "</table><h2>WebSockets</h2><table><tr><th>address<th>description"
    for channel in sockets["channels"].values():
        yield from _row(channel["address"], channel["title"])
    for title, name in (
        ("Frames from the gateway", "operations_frames"),
        ("Messages of a viewer", "operations_messages"),
    ):
        yield f"</table><h2>{title}</h2><table><tr><th>type<th>description"
        for reference in sockets["operations"][name]["messages"]:
            message = reference["$ref"].rpartition("/")[2]
            yield from _row(message, sockets["components"]["messages"][message]["summary"])
    yield "</table><h2>Close codes</h2><table><tr><th>code<th>name<th>meaning<th>reconnect"
    for row in sockets["x-close-codes"]:
        yield from _row(str(row["code"]), row["name"], row["meaning"], row["reconnect"])
    yield "</table></body></html>"


def _row(*cells: str) -> Iterator[str]:
    yield "<tr>"
    for cell in cells:
        yield f"<td>{escape(cell)}"
