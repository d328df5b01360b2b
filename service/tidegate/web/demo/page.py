"""The files of the page, and a description of where the replicas are.

The page is a client like any other, made with `@tidegate/client`, whose built file is
``static/tidegate.js`` (`make page` copies it); it learns of new operations on an ordinary one.
Nothing is loaded from elsewhere, and its policy allows no script, style or connection but these.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from tidegate.model.settings import Settings
from tidegate.web.assets.files import PageFiles, security
from tidegate.web.auth.host import HostRules, host_name, is_loopback
from tidegate.web.demo.requests import INDEX

#: What may stand in a policy.
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]{1,260}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\]")


def page_files() -> PageFiles:
    """All of the page."""
    return PageFiles(files(__package__).joinpath("static"))


def demo_routes(settings: Settings) -> APIRouter:
    """``GET /``, ``GET /demo/<file>`` and ``GET /demo.json``."""
    server = settings.server
    hosts = HostRules(server)
    pages = page_files()

    async def check_host(request: Request) -> None:
        hosts.check(request.scope["headers"])

    router = APIRouter(include_in_schema=False, dependencies=[Depends(check_host)])

    @router.get("/")
    async def demo_page(request: Request) -> Response:
        urls = replica_urls(server.demo_replicas, request.headers.get("host", ""))
        return pages.answer(request, "index.html", security(sources(urls)))

    @router.get("/demo/{name}")
    async def demo_file(name: str, request: Request) -> Response:
        return pages.answer(request, name)

    @router.get("/demo.json")
    async def demo_description(request: Request, response: Response) -> dict[str, Any]:
        response.headers["Cache-Control"] = "no-store"
        return {
            "pod": server.pod,
            "replicas": replica_urls(server.demo_replicas, request.headers.get("host", "")),
            "index": INDEX,
            "key_prefix": settings.redis.key_prefix,
        }

    return router


def replica_urls(urls: tuple[str, ...], host: str) -> list[str]:
    """As the browser that asks for ``host`` reaches them: a list that names loopback, seen from
    another machine or by the name `localhost`, means the host that was asked.
    """
    name = host_name(host)
    if not _HOST.fullmatch(name):
        return list(urls)
    return [_with_host(url, name) if is_loopback(_name(url)) else url for url in urls]


def _name(url: str) -> str:
    return urlsplit(url).hostname or ""


def _with_host(url: str, name: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}:{parts.port}" if parts.port else name).geturl()


def sources(urls: list[str]) -> list[str]:
    """For the policy of the page: the replicas, over HTTP and WebSocket."""
    usable = list(filter(_URL.fullmatch, urls))
    return [source for url in usable for source in (url, url.replace("http", "ws", 1))]
