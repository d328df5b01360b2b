"""The files of the page, and a description of where the replicas are.

The page is a client like any other, made with `@tidegate/client`, whose built file is
``static/tidegate.js`` (`make page` takes it anew); it learns of new operations on an ordinary one.
Nothing is loaded from elsewhere, and its policy allows no script, style or connection but these.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from tidegate.model.settings import Settings
from tidegate.web.auth.host import HostRules, host_name, is_loopback
from tidegate.web.demo.requests import INDEX

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: What may stand in a policy.
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]{1,260}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\]")


class File(NamedTuple):
    """One file of the page, as it is served."""

    body: bytes
    media_type: str
    etag: str


def read_files() -> dict[str, File]:
    """By name; there are no others, whatever a path says."""
    found = {}
    for file in files(__package__).joinpath("static").iterdir():
        suffix = file.name.rpartition(".")[2]
        if suffix in _TYPES:
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[file.name] = File(body, _TYPES[suffix], etag)
    return found


def demo_routes(settings: Settings) -> APIRouter:
    """``GET /``, ``GET /demo/<file>`` and ``GET /demo.json``."""
    server = settings.server
    hosts = HostRules(server)
    pages = read_files()

    async def check_host(request: Request) -> None:
        hosts.check(request.scope["headers"])

    router = APIRouter(include_in_schema=False, dependencies=[Depends(check_host)])

    def answer(name: str, request: Request) -> Response:
        file = pages[name]
        # They are small, and asked for again each time: a newer gateway has newer ones.
        headers = {"Cache-Control": "no-cache", "ETag": file.etag}
        if name == "index.html":
            urls = replica_urls(server.demo_replicas, request.headers.get("host", ""))
            headers |= {
                "Content-Security-Policy": policy(urls),
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Opener-Policy": "same-origin",
            }
        known = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
        if file.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers={**headers, "Content-Type": file.media_type})

    @router.get("/")
    async def demo_page(request: Request) -> Response:
        return answer("index.html", request)

    @router.get("/demo/{name}")
    async def demo_file(name: str, request: Request) -> Response:
        if name not in pages:
            return Response(status_code=404, headers={"Cache-Control": "no-store"})
        return answer(name, request)

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


def policy(urls: list[str]) -> str:
    """The page may load its own files, and connect to itself and the replicas."""
    sources = ["'self'"]
    for url in filter(_URL.fullmatch, urls):
        sources += [url, url.replace("http", "ws", 1)]
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {' '.join(sources)}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
