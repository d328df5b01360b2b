"""One viewer's event stream: a `Sender` whose response begins with what it has to say.

    WAITING --error, close--> a refusal with its own status
       |  \\--nothing may come--> HELD --close--> 204, or a refusal
       |                           | anything else, or `HOLD_S`
       +----- first frame ---------+--> STREAMING --close--> the last event

Nothing is sent before it is known that there is something to say, so that a refusal has a proper
status, and so that a browser which comes back to an operation that is over is told so (204) instead
of coming back forever.

The response begins and ends through ASGI. On our own server what is in between goes straight to the
transport, as chunks that are made once for all streams, as soon as what ASGI was given is sent: no
queue and no task's turn for each. A peer that takes nothing for as long as a WebSocket may leave a
ping unanswered is cut off.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from typing import Protocol

from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode, ComeBack
from tidegate.model.frames import ErrorFrame, StateFrame
from tidegate.model.settings import ViewerSettings
from tidegate.web.asgi_sender import AsgiSend, AsgiSender
from tidegate.web.problem import Refusal, problem_of, send_response
from tidegate.web.server.flow import DirectWriter
from tidegate.web.sse.encoding import HEART_BEAT, end_event, retry_event

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


class StreamConnection(Protocol):
    """What it needs of the connection of a server that lets it write past ASGI."""

    transport: asyncio.Transport
    writer: DirectWriter | None


class SseSender(AsgiSender):
    """`connection`: where chunks may be written past ASGI. `transport`: what is cut off when it
    takes nothing, where it is known. `final` are the statuses with which a viewer that has
    everything may be at the end; `hold_s` is how long its end is waited for.
    """

    def __init__(
        self,
        send: AsgiSend,
        settings: ViewerSettings,
        *,
        connection: StreamConnection | None,
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
        self._connection = connection
        self._transport = transport
        #: The transport's, once the response has begun and while it may go on.
        self._write_chunk: Callable[[bytes], None] | None = None
        self._final = final
        self._hold_s = hold_s
        self._loop = asyncio.get_running_loop()
        self._state = StreamState.WAITING
        self._first: Batch | None = None
        self._refusal: tuple[str, str] | None = None
        self._sent = 0
        self._sent_before = 0
        self._quiet_since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # -- what comes in ---------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        """Send it as events, unless the response begins with something else."""
        if self._write_chunk is not None:
            self._sent += 1
            self._write_chunk(batch.event_chunk())
            return
        if self.closed:
            return
        if self._state is not StreamState.STREAMING and self._keeps_back(batch):
            return
        super().write(batch)

    def _keeps_back(self, batch: Batch) -> bool:
        """Whether the response does not begin with these frames; else it has begun."""
        frame = batch.frames[0]
        if isinstance(frame, ErrorFrame):
            self._refusal = (frame.code, frame.message)
            return True
        if (
            self._state is StreamState.WAITING
            and isinstance(frame, StateFrame)
            and len(batch.frames) == 1
            and frame.status in self._final
        ):
            self._state = StreamState.HELD
            self._first = batch
            self._timer = self._loop.call_later(self._hold_s, self._begin)
            return True
        self._begin()
        return False

    def _begin(self) -> None:
        if self._state is StreamState.STREAMING or self.closed:
            return
        self._state = StreamState.STREAMING
        self._set_timer(self._settings.sse_heartbeat_s)
        first, self._first = self._first, None
        if first is not None:
            super().write(first)

    def close(self, code: CloseCode, reason: str = "") -> None:
        if not self.closed:
            self._leave_transport()
            super().close(code, reason)
            self._set_timer(None)
            self._timer = self._loop.call_later(self._settings.close_timeout_s, self._cut)

    @property
    def unsent_bytes(self) -> int:
        transport = self._transport
        return self._size + (0 if transport is None else transport.get_write_buffer_size())

    def abort(self, code: CloseCode) -> None:
        self.record.closed(code)
        self._cut()

    def lost(self) -> None:
        self._leave_transport()
        self._set_timer(None)
        super().lost()

    # -- what goes out ---------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._set_timer(None)

    async def _transmit(self, batch: Batch) -> None:
        events = batch.events()
        if not self._sent:
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            retry_ms = round(self._settings.sse_retry_s * 1000 * random.uniform(0.5, 1.5))
            events = retry_event(retry_ms) + events
        await self._send({"type": "http.response.body", "body": events, "more_body": True})
        self._sent += 1
        if self._connection is not None and not self._waiting and not self.closed:
            self._take_transport(self._connection)

    def _take_transport(self, connection: StreamConnection) -> None:
        """Write past ASGI from now on, unless something is in front that it would wait for."""
        transport = connection.transport
        if transport.is_closing() or transport.get_write_buffer_size() > self._low:
            return
        connection.writer = self
        transport.set_write_buffer_limits(high=self._high, low=self._low)
        self._write_chunk = transport.write

    def _leave_transport(self) -> None:
        """Nothing more is written, or only what ends the response."""
        connection, self._connection = self._connection, None
        if self._write_chunk is not None and connection is not None:
            connection.writer = None
        self._write_chunk = None

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
        waits = self._size > 0 or not self.writable
        if waits and now - self._quiet_since >= patience_s:
            self._cut()
            return
        if not waits and now - self._quiet_since >= self._settings.sse_heartbeat_s:
            self.write(HEART_BEAT)
        self._set_timer(self._settings.sse_heartbeat_s)

    def _cut(self) -> None:
        """Its buffer will not drain."""
        if self._transport is not None:
            self._transport.abort()
        self.lost()
