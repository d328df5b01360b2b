"""A viewer's socket in memory: implements `Sender`, and checks what is written to it.

It reads all at once until it is told to stop; then its buffer fills, and above the mark it says so
before `write` returns, as the port demands. Frames are checked as `tests.harness.viewer` does: ids
rise strictly except behind a gap, `current_state` comes first and once, nothing follows a close.
"""

from __future__ import annotations

import asyncio
import json

from tests.harness.text_frames import split_texts
from tests.harness.viewer import Json, OrderCheck
from tidegate.core.connection_record import NO_RECORD, ConnectionRecord
from tidegate.core.ports import SenderListener
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode

HIGH_BYTES = 65_536
LOW_BYTES = 16_384


class FakeSocket:
    """Has read `frames`; `unread` bytes are held for it."""

    def __init__(self, *, high: int = HIGH_BYTES, low: int = LOW_BYTES) -> None:
        self.listener: SenderListener | None = None
        self.writable = True
        self.record: ConnectionRecord = NO_RECORD
        self._closed: CloseCode | None = None
        self.frames: list[Json] = []
        self.writes = 0
        self.pauses = 0
        self.unread = 0
        self.unread_max = 0
        self.is_stuck = False
        self._high, self._low = high, low
        self._buffer: list[bytes] = []
        self._order = OrderCheck()
        self._is_broken = False

    # -- Sender

    def write(self, batch: Batch) -> None:
        if self._is_broken:
            raise RuntimeError("unable to perform operation; the handler is closed")
        assert self._closed is None, "nothing follows a close"
        self.writes += 1
        data = batch.websocket()
        assert len(data) == batch.size_bytes
        self._buffer.append(data)
        self.unread += len(data)
        if not self.is_stuck:
            self._take(len(self._buffer))
            return
        self.unread_max = max(self.unread, self.unread_max)
        if self.writable and self.unread > self._high:
            self.writable = False
            self.pauses += 1
            if self.listener is not None:
                self.listener.on_paused()

    def close(self, code: CloseCode, reason: str = "") -> None:
        if self._closed is None:
            self._closed = code
            self.writable = False
            self.record.closed(code)
            asyncio.get_running_loop().call_soon(self.vanish)  # the peer answers the close

    # -- what the viewer does

    def stick(self) -> None:
        """Read no more."""
        self.is_stuck = True

    def read(self, writes: int | None = None) -> None:
        """So many writes (None: all there are, and from now on each at once)."""
        if writes is None:
            self.is_stuck = False
        self._take(len(self._buffer) if writes is None else writes)
        if not self.writable and self._closed is None and self.unread <= self._low:
            self.writable = True
            if self.listener is not None:
                self.listener.on_resumed()

    def vanish(self) -> None:
        """The socket is gone."""
        self.writable = False
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.on_closed()

    def break_off(self) -> None:
        """It broke, and nobody knows until the next write."""
        self._is_broken = True

    def _take(self, writes: int) -> None:
        taken, self._buffer = self._buffer[:writes], self._buffer[writes:]
        for data in taken:
            self.unread -= len(data)
            for text in split_texts(data):
                self._see(json.loads(text))

    def _see(self, frame: Json) -> None:
        if self.frames or frame["type"] not in ("reconnect", "error"):  # a refusal may be all
            assert (frame["type"] == "current_state") is (not self.frames), frame
        self._order.see(frame)
        self.frames.append(frame)

    # -- what it has read

    @property
    def end(self) -> str:
        """The name of the code of its close; empty while it is open."""
        return "" if self._closed is None else self._closed.name

    @property
    def ids(self) -> list[str]:
        return [frame["id"] for frame in self.frames if "id" in frame]

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    @property
    def gaps(self) -> list[Json]:
        return [frame["data"] for frame in self.frames if frame["type"] == "gap"]

    @property
    def skipped(self) -> int:
        return sum(f["data"]["count"] for f in self.frames if f["type"] == "skipped")

    def take(self) -> list[Json]:
        """The frames behind `current_state` since the last call."""
        found, self.frames[1:] = self.frames[1:], []
        return found
