"""Asking the worker of an operation to stop, as a viewer: one HTTP request to the gateway.

To ask twice is the same as once, so the next replica is asked where one does not answer.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import orjson

from tidegate.model.errors import (
    GatewayUnreachable,
    OperationNotFound,
    SignInRequired,
    ViewerRefused,
)
from tidegate.model.ids import OperationId

TIMEOUT_S: Final = 10.0
#: More of an answer is not read.
ANSWER_MAX_BYTES: Final = 65_536
_REFUSALS: Final[dict[int, type[ViewerRefused]]] = {401: SignInRequired, 404: OperationNotFound}


class CancelRequested(NamedTuple):
    """The entry that asks, and whether someone had asked before."""

    id: str
    repeated: bool


class CancelAnswer(NamedTuple):
    """What a replica answered at an address; `body` is empty where it was no JSON object."""

    address: str
    status: int
    body: Mapping[str, Any]

    @property
    def is_accepted(self) -> bool:
        """The worker is asked."""
        return self.status == httpx.codes.ACCEPTED

    @property
    def is_final(self) -> bool:
        """No other replica would do what this one did not, or not at this rate."""
        return self.status < 500 and self.status != httpx.codes.TOO_MANY_REQUESTS


async def request_cancel(
    operation: OperationId,
    bases: Sequence[str],
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> CancelRequested:
    """Ask the first of these replicas that answers.

    Raises:
        ViewerRefused: it is not allowed, or there is nothing to cancel; `code` is the HTTP status
            (409: the operation has ended).
        GatewayUnreachable: none answered.
    """
    answer = await first_answer(operation, bases, token=token, tls=tls)
    if answer.is_accepted:
        return CancelRequested(str(answer.body.get("id", "")), answer.body.get("repeated") is True)
    reason = answer.body.get("detail")
    raise _REFUSALS.get(answer.status, ViewerRefused)(
        reason if isinstance(reason, str) else f"the gateway answered {answer.status}",
        answer.status,
    )


async def first_answer(
    operation: OperationId,
    bases: Sequence[str],
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> CancelAnswer:
    """The first answer that is accepted or final, else the last one.

    Raises:
        GatewayUnreachable: the last replica did not answer, and none before it decided.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    last: CancelAnswer | GatewayUnreachable = GatewayUnreachable("no replica to ask")
    async with httpx.AsyncClient(
        timeout=TIMEOUT_S, trust_env=False, verify=True if tls is None else tls
    ) as http:
        for base in bases:
            address = _address(base, operation)
            try:
                async with http.stream("POST", address, headers=headers) as answer:
                    text = await _beginning(answer)
                    last = CancelAnswer(address, answer.status_code, _object(text))
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                last = GatewayUnreachable(f"{address}: {str(error) or type(error).__name__}")
                continue
            if last.is_final:
                return last
    if isinstance(last, GatewayUnreachable):
        raise last
    return last


def _address(base: str, operation: OperationId) -> str:
    parts = urlsplit(base)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    path = f"{parts.path.rstrip('/')}/operations/{quote(operation, safe='')}/cancel"
    return urlunsplit((scheme, parts.netloc, path, "", ""))


async def _beginning(answer: httpx.Response) -> bytes:
    text = b""
    async for part in answer.aiter_bytes(ANSWER_MAX_BYTES):
        text += part
        if len(text) >= ANSWER_MAX_BYTES:
            break
    return text


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
