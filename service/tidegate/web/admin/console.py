"""The console: a page on the admin port that shows all replicas (``/debug/gateway``) and sends
requests to ``/admin``.

The files contain no data and are served without authentication, so that there is a page on which to
enter the token. Everything that the page shows is requested with that token.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Request, Response

from tidegate.web.assets.files import PageFiles, security


def console_routes() -> APIRouter:
    """``GET /`` and ``GET /console/<file>``."""
    router = APIRouter()
    pages = PageFiles(files(__package__).joinpath("console"))
    headers = security()

    @router.get("/")
    async def console(request: Request) -> Response:
        return pages.answer(request, "index.html", headers)

    @router.get("/console/{name}")
    async def console_file(name: str, request: Request) -> Response:
        return pages.answer(request, name)

    return router
