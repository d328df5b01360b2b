"""Whether viewers reach a gateway at an address: HTTP, WebSocket and event stream, in this order.

Meant for the address that browsers use, with every proxy in between. The operation that is watched
has a random id and no stream, so nothing is written. A refusal for lack of a token proves the path
as well as a state does: the gateway itself has spoken.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from tidegate.client.watching import endpoint
from tidegate.model.findings import Finding, FindingLevel

#: For a connection and its first bytes; a proxy that buffers never gives them.
FIRST_BYTE_S = 5.0
#: A stream's first event is written at once, so a proxy in a data centre adds a few milliseconds.
FIRST_BYTE_NOTED_S = 0.5
ANSWER_MAX_BYTES = 65_536
PROTOCOL = "tidegate.v1"
_TOKEN_ADVICE = "give a viewer's token as TIDEGATE_TOKEN or --token-file to try what viewers get"  # noqa: S105 - a sentence
_PROXY_WEBSOCKET = (
    "let the proxy pass WebSockets: HTTP/1.1 to the gateway, with the headers `Upgrade` and "
    "`Connection: upgrade` (nginx: proxy_http_version 1.1, proxy_set_header)"
)
_PROXY_BUFFERS = (
    "turn off response buffering and compression for text/event-stream in the proxy "
    "(nginx: proxy_buffering off)"
)


def parse_gateway(text: str) -> str:
    """A gateway's address as http or https, with its path prefix. Raises ValueError."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--url {text!r} must be an http, https, ws or wss address")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"--url {text!r} must have neither a user nor a query")
    _ = parts.port  # raises for one that is none
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


async def examine_gateway(
    url: str, token: str | None, first_byte_s: float = FIRST_BYTE_S
) -> list[Finding]:
    """Try one address, from `parse_gateway`. The later steps need the first."""
    operation = f"doctor-{secrets.token_hex(8)}"
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        headers=headers, timeout=first_byte_s, follow_redirects=False
    ) as client:
        answers = await _answers(client, url, operation, has_token=token is not None)
        if answers.verdict is FindingLevel.FAILED:
            return [answers]
        stream = await _event_stream(client, url, operation, first_byte_s)
    return [answers, await _socket(url, operation, headers, first_byte_s), stream]


async def _answers(
    client: httpx.AsyncClient, url: str, operation: str, *, has_token: bool
) -> Finding:
    """A state over HTTP: is it a gateway, does it have Redis, does it take the token?"""
    began = time.perf_counter()
    try:
        answer = await client.get(f"{url}/operations/{operation}")
    except httpx.HTTPError as error:
        return Finding(url, "http", FindingLevel.FAILED, _words(error), _connect_advice(error))
    took = _ms(time.perf_counter() - began)
    try:
        body = answer.json() if len(answer.content) <= ANSWER_MAX_BYTES else {}
    except ValueError:
        body = {}
    code = body.get("code") if isinstance(body, dict) else None
    if not isinstance(code, str) and not (isinstance(body, dict) and body.get("cursor")):
        text = f"status {answer.status_code}, not from a gateway"
        advice = "check the address and its path; the proxy must pass /ws, /sse and /operations"
        return Finding(url, "http", FindingLevel.FAILED, text, advice)
    if answer.status_code in (200, 404, 410):
        return Finding(url, "http", FindingLevel.OK, f"a gateway answers in {took}")
    detail = str(body.get("detail", code))[:300]
    if answer.status_code in (401, 403):
        found = f"a gateway answers in {took}: {detail}"
        if code == "host":
            return Finding(
                url, "http", FindingLevel.FAILED, found, "add it to server.allowed_hosts"
            )
        if answer.status_code == 403:  # the random id is none of this user's
            return Finding(url, "http", FindingLevel.OK, found)
        verdict = FindingLevel.FAILED if has_token else FindingLevel.WARNING
        advice = "`tidegate token check` says what is wrong with it" if has_token else _TOKEN_ADVICE
        return Finding(url, "http", verdict, found, advice)
    found = f"status {answer.status_code}: {detail}"
    return Finding(
        url, "http", FindingLevel.FAILED, found, "see the log and /readyz of the gateway"
    )


async def _socket(
    url: str, operation: str, headers: Mapping[str, str], first_byte_s: float
) -> Finding:
    """Upgrade, sub-protocol, the first frame, and an answer to a ping."""
    began = time.perf_counter()
    try:
        async with (
            asyncio.timeout(2 * first_byte_s),
            connect(
                endpoint(url, operation),
                subprotocols=[Subprotocol(PROTOCOL)],
                additional_headers=headers,
                open_timeout=first_byte_s,
                close_timeout=1,
                compression=None,
                max_size=ANSWER_MAX_BYTES,
            ) as socket,
        ):
            first = _frame(await socket.recv())
            took = _ms(time.perf_counter() - began)
            if socket.subprotocol != PROTOCOL:
                text = f"the sub-protocol is {socket.subprotocol}, not {PROTOCOL}"
                advice = "let the proxy pass Sec-WebSocket-Protocol, which browsers need"
                return Finding(url, "websocket", FindingLevel.FAILED, text, advice)
            if first.get("type") == "error":
                data = first.get("data")
                why = data.get("message") if isinstance(data, dict) else ""
                text = f"first frame after {took}, a refusal: {str(why)[:300]}"
                return Finding(url, "websocket", FindingLevel.OK, text)
            asked = time.perf_counter()
            await socket.send('{"type":"ping"}')
            while first.get("type") != "pong":
                first = _frame(await socket.recv())
            found = f"first frame after {took}, a ping takes {_ms(time.perf_counter() - asked)}"
            return Finding(url, "websocket", FindingLevel.OK, found)
    except InvalidStatus as error:
        text = f"status {error.response.status_code} instead of 101"
        return Finding(url, "websocket", FindingLevel.FAILED, text, _PROXY_WEBSOCKET)
    except ConnectionClosed as error:
        text = f"closed before its first frame: {error}"
        return Finding(url, "websocket", FindingLevel.FAILED, text, _PROXY_WEBSOCKET)
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as error:
        return Finding(url, "websocket", FindingLevel.FAILED, _words(error), _PROXY_WEBSOCKET)


async def _event_stream(
    client: httpx.AsyncClient, url: str, operation: str, first_byte_s: float
) -> Finding:
    """How long the first event takes: what is behind a buffer does not come at all."""
    began = time.perf_counter()
    status = None
    try:
        async with (
            asyncio.timeout(first_byte_s),
            client.stream(
                "GET",
                f"{url}/sse/operations/{operation}",
                headers={"Accept": "text/event-stream", "Accept-Encoding": "gzip, br"},
            ) as answer,
        ):
            status = answer.status_code
            if status != 200:
                return await _refused_stream(url, answer)
            async for part in answer.aiter_raw():
                if part:
                    break
            took_s = time.perf_counter() - began
            kind = answer.headers.get("content-type", "")
            encoding = answer.headers.get("content-encoding")
    except (httpx.HTTPError, TimeoutError) as error:
        timed_out = isinstance(error, TimeoutError | httpx.TimeoutException)
        since = "after its headers" if status is not None else "at all"
        text = f"no byte in {first_byte_s:g} s {since}: buffered" if timed_out else _words(error)
        return Finding(url, "event stream", FindingLevel.FAILED, text, _PROXY_BUFFERS)
    found = f"first byte after {_ms(took_s)}"
    if not kind.startswith("text/event-stream"):
        text = f"{found}, but as {kind[:100] or 'no type'}"
        return Finding(
            url, "event stream", FindingLevel.FAILED, text, "let the proxy pass it unchanged"
        )
    if encoding not in (None, "identity"):
        text = f"{found}, compressed with {encoding[:20]}"
        return Finding(url, "event stream", FindingLevel.WARNING, text, _PROXY_BUFFERS)
    if took_s > FIRST_BYTE_NOTED_S:
        return Finding(url, "event stream", FindingLevel.WARNING, found, _PROXY_BUFFERS)
    return Finding(url, "event stream", FindingLevel.OK, found)


async def _refused_stream(url: str, answer: httpx.Response) -> Finding:
    """401 and 403 are the gateway's own words, in front of the stream."""
    is_ours = answer.headers.get("content-type", "").startswith("application/problem+json")
    text = f"status {answer.status_code} before the stream"
    if is_ours and answer.status_code in (401, 403):
        return Finding(url, "event stream", FindingLevel.UNKNOWN, text, _TOKEN_ADVICE)
    advice = "see the log and /readyz of the gateway" if is_ours else _PROXY_BUFFERS
    return Finding(url, "event stream", FindingLevel.FAILED, text, advice)


async def examine_admin(url: str) -> Finding:
    """`/readyz` of a replica's admin port."""
    try:
        async with httpx.AsyncClient(timeout=FIRST_BYTE_S, trust_env=False) as client:
            answer = await client.get(f"{url}/readyz")
            body = answer.json()
            reason = str(body.get("reason", "")) if isinstance(body, dict) else ""
    except httpx.HTTPError as error:
        advice = "give the admin port, 9090 by default, where this machine reaches it"
        return Finding(url, "health", FindingLevel.FAILED, _words(error), advice)
    except ValueError:
        advice = "give the admin port of a replica, 9090 by default"
        return Finding(url, "health", FindingLevel.FAILED, "not from an admin port", advice)
    if answer.status_code == httpx.codes.OK:
        return Finding(url, "health", FindingLevel.OK, "ready")
    advice = "see the log of this replica"
    return Finding(url, "health", FindingLevel.FAILED, f"not ready: {reason[:300]}", advice)


def _frame(text: str | bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("a frame that is not of a gateway")
    return found


def _connect_advice(error: httpx.HTTPError) -> str:
    if "certificate" in str(error).lower():
        return "the certificate is not valid for this name, or its CA is not known here"
    if isinstance(error, httpx.TimeoutException):
        return "packets are dropped on the way, or the proxy waits for a gateway that is not there"
    return "check host, port and scheme; no HTTP server answers there"


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "no reply in time"
    return (str(error) or type(error).__name__)[:300]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
