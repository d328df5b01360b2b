"""The socket part of ``tidegate watch``: connects where ``Watching`` points and feeds it frames."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from tidegate.cli.console import REFUSED
from tidegate.cli.watch_views import View
from tidegate.cli.watching import Decision, Finished, Watching

#: What a gateway may send in one frame: the upper bound of dispatch.max_entry_bytes, and room.
MAX_FRAME_BYTES = 65 * 1_048_576
OPEN_TIMEOUT_S = 5.0


async def follow(watching: Watching, view: View, patience_s: float) -> Finished:
    """Until the operation ends, a replica refuses, or nobody answers for ``patience_s``."""
    answered_s = time.monotonic()
    while True:
        base = watching.base
        decision, answered = await _connect_once(watching, view)
        if isinstance(decision, Finished):
            return decision
        if answered:
            answered_s = time.monotonic()
        waited_s = time.monotonic() - answered_s
        if waited_s + decision.delay_s > patience_s:
            return Finished(
                REFUSED,
                f"no replica answered for {waited_s:.0f} s; the last: {base}: {decision.text}",
            )
        view.note(f"{base}: {decision.text}; next {watching.base} in {decision.delay_s:.1f} s")
        await asyncio.sleep(decision.delay_s)


async def _connect_once(watching: Watching, view: View) -> tuple[Decision, bool]:
    """One connection from its start to its end; whether a gateway spoke on it."""
    try:
        socket = await connect(
            watching.url,
            subprotocols=[Subprotocol("tidegate.v1")],
            # Frames are small and many: the gateway sends them uncompressed.
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1,
            # A replica that is stuck says nothing either: 10 s until the next one is tried.
            ping_interval=5,
            ping_timeout=5,
            user_agent_header=None,
        )
    except InvalidStatus as error:
        response = error.response
        text = (response.body or b"").decode(errors="replace").strip()[:200]
        decision = watching.not_connected(
            text or response.reason_phrase,
            status=response.status_code,
            retry_after_s=_seconds(response.headers.get("Retry-After")),
        )
        return decision, False
    except (OSError, TimeoutError, InvalidHandshake) as error:
        return watching.not_connected(_words(error)), False
    spoke = await _read(socket, watching, view)
    return watching.closed(socket.close_code or 1006, socket.close_reason or ""), spoke


async def _read(socket: ClientConnection, watching: Watching, view: View) -> bool:
    spoke = False
    async with socket:
        try:
            while True:
                text = await socket.recv()
                frame = _parse(text)
                if frame is not None:
                    spoke = True
                    watching.received(frame, time.time())
                    view.frame(str(text), frame)
        except ConnectionClosed:
            return spoke


def _parse(text: str | bytes) -> dict[str, Any] | None:
    """A frame; what is none is passed over, as a newer protocol may bring what we do not know."""
    if isinstance(text, bytes):
        return None
    try:
        frame = json.loads(text)
    except ValueError:
        return None
    return frame if isinstance(frame, dict) else None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None


def _words(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
