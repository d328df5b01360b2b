"""One viewer's event stream, sent through ASGI: a `Sender` whose response begins with what it has
to say.

    WAITING --error, close--> a refusal with its own status
       |  \\--nothing may come--> HELD --close--> 204, or a refusal
       |                           | anything else, or `HOLD_S`
       +----- first frame ---------+--> STREAMING --close--> the last event

Nothing is sent before it is known that there is something to say, so that a refusal has a proper
status, and so that a browser which comes back to an operation that is over is told so (204) instead
of coming back for ever. A peer that takes nothing for as long as a WebSocket may leave a ping
unanswered is cut off.
"""

from __future__ import annotations

import asyncio
import enum
import random

import orjson

from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode, ComeBack
from tidegate.model.frames import split_texts
from tidegate.model.settings import ViewerSettings
from tidegate.web.asgi_sender import AsgiSend, AsgiSender
from tidegate.web.problem import Refusal, problem_of, send_response
from tidegate.web.sse.encoding import HEART_BEAT, EventStream, end_event, retry_event

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would collect events until its buffer is full.
    (b"x-accel-buffering", b"no"),
]


class StreamState(enum.Enum):
    """See the table in the module's docstring."""

    WAITING = "waiting"
    HELD = "held"
    STREAMING = "streaming"


class SseSender(AsgiSender):
    """`final` are the statuses with which a viewer that has everything may be at the end; `hold_s`
    is how long its end is waited for.
    """

    def __init__(
        self,
        send: AsgiSend,
        settings: ViewerSettings,
        stream: EventStream,
        *,
        transport: asyncio.Transport | None,
        final: frozenset[str],
        hold_s: float,
    ) -> None:
        super().__init__(
            send,
            high_water_bytes=settings.high_water_bytes,
            low_water_bytes=settings.low_water_bytes,
        )
        self._settings = settings
        self._stream = stream
        self._transport = transport
        self._final = final
        self._hold_s = hold_s
        self._loop = asyncio.get_running_loop()
        self._state = StreamState.WAITING
        self._first = b""
        self._refusal: tuple[str, str] | None = None
        self._sent = 0
        self._sent_before = 0
        self._quiet_since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # -- what comes in ---------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self.closed:
            return
        if self._state is not StreamState.STREAMING and self._keeps_back(data):
            return
        super()._write(self._stream.events(data))

    def _keeps_back(self, data: bytes) -> bool:
        """Whether the response does not begin with these frames; else it has begun."""
        texts = split_texts(data)
        frame = orjson.loads(texts[0])
        if frame["type"] == "error":
            self._refusal = (frame["data"]["code"], frame["data"]["message"])
            return True
        if (
            self._state is StreamState.WAITING
            and frame["type"] == "current_state"
            and len(texts) == 1
            and frame["data"]["status"] in self._final
        ):
            self._state = StreamState.HELD
            self._first = data
            self._timer = self._loop.call_later(self._hold_s, self._begin)
            return True
        self._begin()
        return False

    def _begin(self) -> None:
        if self._state is StreamState.STREAMING or self.closed:
            return
        self._state = StreamState.STREAMING
        self._set_timer(self._settings.sse_heartbeat_s)
        first, self._first = self._first, b""
        retry_ms = round(self._settings.sse_retry_s * 1000 * random.uniform(0.5, 1.5))
        super()._write(retry_event(retry_ms) + (self._stream.events(first) if first else b""))

    def close(self, code: CloseCode, reason: str = "") -> None:
        if not self.closed:
            super().close(code, reason)
            self._set_timer(None)
            self._timer = self._loop.call_later(self._settings.close_timeout_s, self._cut)

    def lost(self) -> None:
        self._set_timer(None)
        super().lost()

    # -- what goes out ---------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._set_timer(None)

    async def _transmit(self, data: bytes) -> None:
        if not self._sent:
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._sent += 1

    async def _end(self, code: CloseCode, reason: str) -> None:
        if self._sent:
            last = end_event(code) if code.come_back is ComeBack.NO else b""
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
        elif code is close_codes.FINISHED:
            await send_response(self._send, 204, {"cache-control": "no-store"})
        else:
            name, message = self._refusal or (code.name, reason or code.meaning)
            await send_response(self._send, *problem_of(Refusal(code, name, message)))

    # -- time ------------------------------------------------------------------------------------

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._beat)

    def _beat(self) -> None:
        """A sign of life for a quiet stream, an end for one that takes nothing."""
        now = self._loop.time()
        if self._sent != self._sent_before:
            self._sent_before = self._sent
            self._quiet_since = now
        patience_s = self._settings.ping_interval_s + self._settings.ping_timeout_s
        if self._size and now - self._quiet_since >= patience_s:
            self._cut()
            return
        if not self._size and now - self._quiet_since >= self._settings.sse_heartbeat_s:
            super()._write(HEART_BEAT)
        self._set_timer(self._settings.sse_heartbeat_s)

    def _cut(self) -> None:
        """Its buffer will not drain."""
        if self._transport is not None:
            self._transport.abort()
        self.lost()
