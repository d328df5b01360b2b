"""The socket part of a viewer: connects where ``Watching`` points, and hands out what arrives.

``follow`` is a generator, so whoever reads slowly is what holds it back: the socket is read no
faster, and a gateway sees a lagging viewer, as with a browser.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)
from websockets.typing import Subprotocol

from tidegate.client.watching import Decision, Return, WatchFinished, Watching
from tidegate.model.folded_state import is_entry
from tidegate.model.frame_parsing import parse_frame

#: What a gateway may send in one frame: the upper bound of dispatch.max_entry_bytes, and room.
MAX_FRAME_BYTES = 65 * 1_048_576
OPEN_TIMEOUT_S = 5.0
#: Of a stream id: two numbers of 64 bits.
ENTRY_ID_MAX_LENGTH = 41

#: Gives a token for each connection.
TokenSource = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Received:
    """One frame, as text and parsed; ``Watching`` has taken it in."""

    text: str
    frame: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """Something about the connection, for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody answered for as long as the caller has patience. The last event."""

    text: str


Event = Received | Note | WatchFinished | Unreachable


async def follow(
    watching: Watching,
    patience_s: float,
    *,
    token: TokenSource | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Event, None]:
    """Until the operation ends, a replica refuses, or nobody answers for ``patience_s``."""
    answered_s = time.monotonic()
    while True:
        base = watching.base
        secret = None if token is None else await token()
        opened = await open_socket(watching, secret, tls)
        if not isinstance(opened, WatchFinished | Return):
            spoke = False
            async with opened:
                async for received in _read(opened, watching):
                    spoke = True
                    yield received
            if spoke:
                answered_s = time.monotonic()
            decision = watching.closed(opened.close_code or 1006, opened.close_reason or "")
        else:
            decision = opened
        if isinstance(decision, WatchFinished):
            yield decision
            return
        waited_s = time.monotonic() - answered_s
        if waited_s + decision.delay_s > patience_s:
            yield Unreachable(
                f"no replica answered for {waited_s:.0f} s; the last: {base}: {decision.text}"
            )
            return
        yield Note(f"{base}: {decision.text}; next {watching.base} in {decision.delay_s:.1f} s")
        await asyncio.sleep(decision.delay_s)


async def open_socket(
    watching: Watching, token: str | None, tls: ssl.SSLContext | None
) -> ClientConnection | Decision:
    """A connection to where `watching` points, or what to do without one."""
    # A context for ws:// is an error to websockets, and none is its default for wss://.
    secure: dict[str, Any] = {"ssl": tls} if watching.url.startswith("wss:") and tls else {}
    try:
        return await connect(
            watching.url,
            subprotocols=[Subprotocol("tidegate.v1")],
            additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
            # Frames are small and many: the gateway sends them uncompressed.
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1,
            # A replica that is stuck says nothing either: 10 s until the next one is tried.
            ping_interval=5,
            ping_timeout=5,
            user_agent_header=None,
            **secure,
        )
    except InvalidStatus as error:
        response = error.response
        text = (response.body or b"").decode(errors="replace").strip()[:200]
        return watching.not_connected(
            text or response.reason_phrase,
            status=response.status_code,
            retry_after_s=_seconds(response.headers.get("Retry-After")),
        )
    # The last two: a redirect to what is no address of a gateway.
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as error:
        return watching.not_connected(_words(error))


async def _read(socket: ClientConnection, watching: Watching) -> AsyncGenerator[Received, None]:
    try:
        while True:
            text = await socket.recv()
            frame = parse_frame(text)
            if frame is None or not watching.is_ours(frame):
                continue
            # An entry may have any type.
            if frame.get("type") == "ack_request" and not is_entry(frame):
                await _acknowledge(socket, frame)
            elif watching.received(frame, time.time()) or not is_entry(frame):
                yield Received(str(text), frame)
    except ConnectionClosed:
        return


async def _acknowledge(socket: ClientConnection, frame: Mapping[str, Any]) -> None:
    """Asked for once the entry was handed out: whoever reads it has it by now."""
    data = frame.get("data")
    entry_id = data.get("id") if isinstance(data, Mapping) else None
    if isinstance(entry_id, str) and len(entry_id) <= ENTRY_ID_MAX_LENGTH:
        await socket.send(json.dumps({"type": "ack", "id": entry_id}))


def _seconds(text: str | None) -> float | None:
    """Of `Retry-After`; a date in it is not heeded."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _words(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
