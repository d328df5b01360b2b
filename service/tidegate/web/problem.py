"""Errors over HTTP: problem+json (RFC 9457), with the same names as the `error` frame.

`code` is for programs, `detail` for people, `retry` says whether the same request may succeed
later; when it may, `Retry-After` says when.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import orjson

from tidegate.web.refusal import RETRY_AFTER_S, Refusal

MEDIA_TYPE = "application/problem+json"


def problem(status: int, code: str, detail: str, *, retry: bool) -> tuple[dict[str, str], bytes]:
    """Headers and body."""
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if retry:
        headers["retry-after"] = str(RETRY_AFTER_S)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "retry": retry,
    }
    return headers, orjson.dumps(body)


def problem_of(refusal: Refusal) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a refusal."""
    headers, body = problem(refusal.status, refusal.code, refusal.message, retry=refusal.retry)
    return refusal.status, headers, body


def last_answer(status: int, code: str, detail: str, *, retry: bool = False) -> bytes:
    """A whole answer as bytes, for a connection that ends behind it."""
    headers, body = problem(status, code, detail, retry=retry)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name.title()}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


async def send_response(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    status: int,
    headers: dict[str, str],
    body: bytes = b"",
) -> None:
    """A whole response through ASGI."""
    if status not in (204, 304):
        headers = {**headers, "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
