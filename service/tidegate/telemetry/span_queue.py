"""Spans that wait for export: a bounded queue, and one thread that sends them.

A collector that is slow or unavailable costs the event loop only an append: spans that do not fit
are dropped and counted, and `close` waits no longer than its timeout. OpenTelemetry's own
`BatchSpanProcessor` does neither: it does not report what it dropped, and its flush has no timeout
(open-telemetry/opentelemetry-python#4568, in 1.45).
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = structlog.get_logger(__name__)

#: After the time to flush, for a thread that has been told to give up.
LAST_MOMENT_S = 0.2


class SpanCounts(NamedTuple):
    """Spans since the start, and those that wait now."""

    sent: int
    dropped: int
    waiting: int


class SpanQueue(SpanProcessor):
    """Takes ended spans from one thread, the event loop's."""

    def __init__(
        self, exporter: SpanExporter, *, most: int, batch: int, send_every_s: float
    ) -> None:
        self._exporter = exporter
        self._most = most
        self._batch = batch
        self._send_every_s = send_every_s
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._given_up = False
        self._failing = False
        self._on_the_way = 0
        self._lost = 0
        self._refused = 0
        self._sent = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def counts(self) -> SpanCounts:
        """For the metrics."""
        # Each number has one thread that writes it.
        return SpanCounts(self._sent, self._refused + self._lost, len(self._waiting))

    # -- SpanProcessor, called by the SDK ----------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do yet."""

    def on_end(self, span: ReadableSpan) -> None:
        if self._ending or len(self._waiting) >= self._most:
            self._refused += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= self._batch and not self._wake.is_set():
            self._wake.set()

    def shutdown(self) -> None:
        """The provider's; `close` is the one with a time limit."""
        self.close(0.0)

    # -- the end ----------------------------------------------------------------------------------

    def close(self, flush_s: float) -> None:
        """Send what waits, for so long at the most; blocks. What is left then is dropped."""
        if self._ending:
            return
        self._ending = True
        self._wake.set()
        self._thread.join(flush_s)
        self._given_up = True
        self._exporter.shutdown()  # ends the waits between its tries
        self._thread.join(LAST_MOMENT_S)
        # The thread may still hang in its last request; what it has is as good as lost.
        self._refused += len(self._waiting) + self._on_the_way
        self._on_the_way = 0
        self._waiting.clear()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(self._send_every_s)
            self._wake.clear()
            while self._waiting and not self._given_up:
                self._send()

    def _send(self) -> None:
        count = min(self._batch, len(self._waiting))
        spans = [self._waiting.popleft() for _ in range(count)]
        self._on_the_way = count
        try:
            done = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("trace export failed")
            done = False
        if self._given_up:
            return
        self._on_the_way = 0
        if done:
            self._sent += count
        else:
            self._lost += count
        self._say(done=done)

    def _say(self, *, done: bool) -> None:
        if self._failing is done:
            self._failing = not done
            if done:
                log.info("trace export recovered", dropped=self.counts().dropped)
            else:
                log.warning("trace export failed; spans are dropped", batch=self._batch)
