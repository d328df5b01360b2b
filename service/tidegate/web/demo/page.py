"""The page of ``tidegate run``: one file, and a description of where the replicas are.

Mounted only when ``server.demo`` is set. The page is a client like any other: it learns of new
operations on the ordinary operation ``demo``, and what to do after a close from the one table.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from tidegate.model.close_codes import CLOSE_CODES
from tidegate.model.settings import Settings
from tidegate.web.auth.host import HostRules

INDEX_OPERATION = "demo"


def demo_routes(settings: Settings) -> APIRouter:
    """``GET /`` and ``GET /demo.json``."""
    hosts = HostRules(settings.server)

    async def check_host(request: Request) -> None:
        hosts.check(request.scope["headers"])

    router = APIRouter(include_in_schema=False, dependencies=[Depends(check_host)])
    page = files("tidegate.web").joinpath("demo.html").read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": _policy(page), "Cache-Control": "no-cache"}

    @router.get("/", response_class=HTMLResponse)
    async def demo_page() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @router.get("/demo.json")
    async def demo_description() -> dict[str, Any]:
        return {
            "pod": settings.server.pod,
            "replicas": list(settings.server.demo_replicas),
            "index": INDEX_OPERATION,
            "come_back": {str(code): row.come_back.value for code, row in CLOSE_CODES.items()},
        }

    return router


def _policy(page: str) -> str:
    """The page may do what it needs: its own script and style, and connections to replicas."""
    script = _hash(page, "script")
    style = _hash(page, "style")
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; "
        "img-src data:; connect-src *; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the demo page has no <{tag}>")
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
