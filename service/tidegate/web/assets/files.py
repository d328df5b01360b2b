"""The files of a page, read once and served from memory: there are no others, whatever a path says.

They are small, and asked for again each time (`no-cache`, with an ETag): a newer gateway has newer
ones. `security` is for the page itself: it may load what is its own, and connect where it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import Request, Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class File(NamedTuple):
    """One file, as it is served."""

    body: bytes
    media_type: str
    etag: str


class PageFiles:
    """Those of a folder, and the shared ones."""

    def __init__(self, folder: Traversable) -> None:
        self.by_name: dict[str, File] = {}
        for file in (*files(__package__).joinpath("shared").iterdir(), *folder.iterdir()):
            media_type = _TYPES.get(file.name.rpartition(".")[2])
            if media_type is not None:
                body = file.read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
                self.by_name[file.name] = File(body, media_type, etag)

    def answer(
        self, request: Request, name: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        """The file, or that the browser has it already, or 404."""
        file = self.by_name.get(name)
        if file is None:
            return Response(status_code=404, headers={"Cache-Control": "no-store"})
        given = {"Cache-Control": "no-cache", "ETag": file.etag, **(headers or {})}
        known = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
        if file.etag in known:
            return Response(status_code=304, headers=given)
        return Response(file.body, headers={**given, "Content-Type": file.media_type})


def security(connect_to: Iterable[str] = ()) -> dict[str, str]:
    """Headers of a page that runs its own files only, and connects to itself and these."""
    sources = " ".join(["'self'", *connect_to])
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {sources}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
