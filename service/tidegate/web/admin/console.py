"""The console: a page on the admin port that shows what ``/debug/gateway`` tells of all replicas,
and asks ``/admin``.

The files hold nothing and are given to whoever reaches the port, so that there is a place to give
the token; everything that the page shows is asked for with it, under the rules of those routes.
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
