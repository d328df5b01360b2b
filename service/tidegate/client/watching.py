"""Following one operation, without a socket: where we are, and what to do after a close.

``Watching`` is told what arrives and answers with decisions; connecting, waiting and showing are
done by others. It is also a worked example of a client: cursor, resume, close codes, backoff.

Invariant: ``url`` always resumes after the last entry received, whichever replica it leads to.

| happened | then |
|---|---|
| the entry that ends it was received, any close | finished, with that status |
| close 1000 | finished |
| close 4401 after it was let in, with a token that can be renewed | the same replica again, once |
| close code that says no | finished, refused |
| `reconnect` frame before the close | next replica after the delay it names |
| anything else | next replica, backoff with jitter; at once the first time |
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from tidegate.model.close_codes import (
    ABNORMAL,
    CLOSE_CODES,
    CONNECTION_LIMIT,
    UNAUTHENTICATED,
    ComeBack,
    come_back,
)
from tidegate.model.entries import TerminalRules

ENDS = TerminalRules().statuses
#: The types that end an operation, with the status that each tells.
END_OF_TYPE = {type_: type_.removeprefix("operation_") for type_ in TerminalRules().types}

#: Spread of the first attempt after a good connection: many viewers of one dead replica must not
#: all arrive at its neighbour in the same instant.
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 10.0
LATER_DELAY_S = 1.0
#: Figures above it, in frames, are nonsense.
NUMBER_MAX = 1e18


@dataclass(frozen=True, slots=True)
class WatchFinished:
    """End here; ``text`` says why. ``status`` is the operation's, as far as it is known.

    ``refused`` is the close code or HTTP status of a refusal, None after a proper end.
    """

    status: str
    text: str
    refused: int | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """Connect to ``Watching.url`` after ``delay_s`` seconds; ``text`` says why."""

    delay_s: float
    text: str


Decision = WatchFinished | Return


def endpoint(base: str, operation: str) -> str:
    """The WebSocket address of an operation below a replica's base address.

    Raises:
        ValueError: ``base`` is no ``ws``, ``wss``, ``http`` or ``https`` URL.
    """
    parts = urlsplit(base if "://" in base else f"ws://{base}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{base} is no ws:// or wss:// address")
    path = f"{parts.path.rstrip('/')}/ws/operations/{quote(operation, safe='')}"
    return urlunsplit((scheme, parts.netloc, path, "", ""))


class Watching:
    """The state of following one operation over many connections."""

    def __init__(
        self,
        operation: str,
        bases: Sequence[str],
        *,
        after: str | None = None,
        history: str | None = None,
        renewable: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self.operation = operation
        self.bases = tuple(bases)
        self._endpoints = [endpoint(base, operation) for base in bases]
        self._at = 0
        self._history = history
        #: Each connection gets a new token, so one that has expired is no refusal.
        self._renewable = renewable
        self._was_let_in = False
        self._rng = rng or random.Random()
        self._failures = 0
        self._after_ms: float | None = None
        self._refusal = ""
        #: The entry that ends it has been received, and none behind it that says it runs again.
        self._has_end = False

        self.cursor = after
        self.admitted = False
        self.status = "unknown"
        self.finished = False
        self.fraction: float | None = None
        self._in_percent = False
        self.message = ""
        self.connected = False
        self.stale = False
        self.lag_s: float | None = None
        self.entries = 0
        self.reconnects = 0
        self.gaps = 0
        self.skipped = 0

    @property
    def base(self) -> str:
        """The replica of this attempt."""
        return self.bases[self._at]

    @property
    def url(self) -> str:
        query = {}
        if self.cursor is not None:
            query["last_event_id"] = self.cursor
        elif self._history is not None:
            query["history"] = self._history
        query["acks"] = "1"
        address = self._endpoints[self._at]
        return f"{address}?{urlencode(query)}"

    def received(self, frame: Mapping[str, Any], now_s: float) -> None:
        """Take in one frame; ``now_s`` is the wall clock, for the lag."""
        data = frame.get("data")
        data = data if isinstance(data, Mapping) else {}
        if isinstance(frame.get("id"), str):
            self._entry(frame["id"], frame.get("type"), data, now_s)
            return
        match frame.get("type"):
            case "current_state":
                self._admitted(frame, data)
            case "gap":
                self.gaps += 1
            case "skipped":
                count = data.get("count")
                self.skipped += count if isinstance(count, int) else 0
            case "stale":
                self.stale = True
            case "live":
                self.stale = False
            case "reconnect":
                after_ms = data.get("after_ms")
                self._after_ms = float(after_ms) if _is_number(after_ms) else None
            case "error":
                self._refusal = str(data.get("message") or data.get("code") or "")

    def _admitted(self, frame: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.admitted = self.connected = self._was_let_in = True
        self.stale = False
        self._failures = 0
        if self.cursor is None and isinstance(frame.get("cursor"), str):
            self.cursor = frame["cursor"]
        self._take_status(data.get("status"))

    def _entry(self, entry_id: str, type_: object, data: Mapping[str, Any], now_s: float) -> None:
        self.cursor = entry_id
        self.entries += 1
        self._failures = 0
        ms = milliseconds(entry_id)
        self.lag_s = None if ms is None else max(0.0, now_s - ms / 1000)
        status = END_OF_TYPE.get(type_) if isinstance(type_, str) else None
        if status is None:
            status = data.get("status")
        if isinstance(status, str):
            self._take_status(status)
            self._has_end = self.finished
        elif self.status == "unknown":
            self.status = "running"
        self._take_progress(data)
        for key in ("message", "error", "text"):
            if isinstance(data.get(key), str):
                self.message = printable(data[key])
                break

    def _take_status(self, status: object) -> None:
        # "unknown" is what a replica says of a stream without any status; it tells nothing new.
        if not isinstance(status, str) or status == "unknown":
            return
        self.status = printable(status)
        self.finished = status in ENDS

    def _take_progress(self, data: Mapping[str, Any]) -> None:
        """``progress`` as 0..1 or 0..100, or ``current`` of ``total``."""
        total, current, progress = data.get("total"), data.get("current"), data.get("progress")
        if _is_number(current) and _is_number(total) and total > 0:
            fraction = min(current, total) / total
        elif _is_number(progress):
            # 1 is the end of 0..1 and the first percent of 0..100: only a figure above 1 tells.
            self._in_percent = self._in_percent or progress > 1
            fraction = min(progress, 100) / 100 if self._in_percent else progress
        else:
            return
        self.fraction = min(1.0, max(0.0, float(fraction)))

    def closed(self, code: int, reason: str = "") -> Decision:
        """The connection ended with this close code (1006: without one)."""
        why = self._refusal or reason or _meaning(code)
        after_ms, self._after_ms, self._refusal = self._after_ms, None, ""
        if self._has_end or code == 1000:
            return WatchFinished(self.status, f"{self.operation}: {self.status}")
        what = come_back(code)
        was_let_in, self._was_let_in = self._was_let_in, False
        if code == UNAUTHENTICATED.code and self._renewable and was_let_in:
            self.connected = False
            return Return(0.0, why)
        # At the limit from the start there is nothing to wait for; later it may only be that a
        # dead replica still counts for us.
        if what is ComeBack.NO or (code == CONNECTION_LIMIT.code and not self.admitted):
            return WatchFinished(self.status, f"refused ({code}): {why}", code)
        self._next_replica()
        if after_ms is not None:
            return Return(max(0.0, after_ms) / 1000, why)
        return Return(self._backoff(LATER_DELAY_S if what is ComeBack.LATER else 0.0), why)

    def not_connected(
        self, why: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> Decision:
        """No WebSocket came to be: no route, or an HTTP answer with ``status``."""
        if self._has_end:
            return WatchFinished(self.status, f"{self.operation}: {self.status}")
        if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
            return WatchFinished(self.status, f"{self.base} answered {status}: {why}", status)
        self._next_replica()
        return Return(self._backoff(retry_after_s or 0.0), why)

    def _next_replica(self) -> None:
        self._at = (self._at + 1) % len(self.bases)
        self.connected = False
        self.reconnects += 1

    def _backoff(self, least_s: float) -> float:
        """Full jitter: uniform up to a bound that doubles with each failure in a row."""
        bound = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return least_s + self._rng.uniform(0, bound)


def _meaning(code: int) -> str:
    row = CLOSE_CODES.get(code)
    if row is None:
        return f"close code {code}"
    return "the connection broke" if row is ABNORMAL else row.meaning


def printable(text: str) -> str:
    """JSON can name half a surrogate pair, which no terminal and no file can take."""
    return text.encode(errors="replace").decode()


def milliseconds(entry_id: str) -> int | None:
    """The time in an entry's id; None where it is none (ids of one half have 64 bits at most)."""
    ms = entry_id.partition("-")[0]
    return int(ms) if ms.isascii() and ms.isdigit() and len(ms) <= 20 else None


def _is_number(value: object) -> TypeGuard[int | float]:
    """A number to reckon with: JSON also has integers that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -NUMBER_MAX <= value <= NUMBER_MAX
