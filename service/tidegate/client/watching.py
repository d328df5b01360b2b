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
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from tidegate.model.close_codes import (
    ABNORMAL,
    CLOSE_CODES,
    CONNECTION_LIMIT,
    UNAUTHENTICATED,
    ComeBack,
    come_back,
)
from tidegate.model.folded_state import FoldedState, fold, is_entry
from tidegate.model.frame_values import number_of, read_position, read_text

#: Spread of the first attempt after a good connection: many viewers of one dead replica must not
#: all arrive at its neighbour in the same instant.
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 10.0
LATER_DELAY_S = 1.0
#: A gateway that asks to wait for longer is not believed.
ASKED_DELAY_MAX_S = 600.0


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

        #: What the frames so far say.
        self.state = FoldedState(cursor=after)
        self.admitted = False
        self.connected = False
        #: Of the last entry, from its id to its arrival; None for history, which is old, not late.
        self.lag_s: float | None = None
        self._joined_s = 0.0
        self.reconnects = 0

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

    def received(self, frame: Mapping[str, Any], now_s: float) -> bool:
        """Take in one frame; ``now_s`` is the wall clock, for the lag. Whether it says something
        new: an entry that was had already, or a frame that is none of the protocol's, does not.
        """
        if not self.is_ours(frame):
            return False
        before = self.state
        self.state, shown = fold(before, frame)
        if self.state.entries > before.entries:
            self._failures = 0
            if "id" in frame and self.state.cursor is not None:
                ms = milliseconds(self.state.cursor)
                live = ms is not None and ms / 1000 >= self._joined_s
                self.lag_s = max(0.0, now_s - ms / 1000) if live and ms is not None else None
        elif not is_entry(frame):
            if frame.get("type") == "current_state":
                self._joined_s = now_s
            self._control(frame)
        return shown

    def is_ours(self, frame: Mapping[str, Any]) -> bool:
        """Whether the frame names no other operation."""
        operation = frame.get("operation")
        return not isinstance(operation, str) or operation == self.operation

    def _control(self, frame: Mapping[str, Any]) -> None:
        data = frame.get("data")
        data = data if isinstance(data, Mapping) else {}
        match frame.get("type"):
            case "current_state":
                self.admitted = self.connected = self._was_let_in = True
                self._failures = 0
            case "reconnect":
                self._after_ms = number_of(data.get("after_ms"))
            case "error":
                text = read_text(data.get("message")) or read_text(data.get("code"))
                self._refusal = text or ""

    # -- what is known ----------------------------------------------------------------------------

    @property
    def cursor(self) -> str | None:
        """Where to go on."""
        return self.state.cursor

    @property
    def status(self) -> str:
        """The last status known."""
        return self.state.status

    @property
    def finished(self) -> bool:
        """Whether that is a final one."""
        return self.state.finished

    @property
    def fraction(self) -> float | None:
        """0 to 1."""
        return self.state.progress

    @property
    def message(self) -> str:
        """For people: of a failure its error."""
        return self.state.error or self.state.message

    # -- what to do -------------------------------------------------------------------------------

    def closed(self, code: int, reason: str = "") -> Decision:
        """The connection ended with this close code (1006: without one)."""
        why = self._refusal or reason or _meaning(code)
        after_ms, self._after_ms, self._refusal = self._after_ms, None, ""
        if self.state.ended or code == 1000:
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
            return Return(min(max(0.0, after_ms) / 1000, ASKED_DELAY_MAX_S), why)
        return Return(self._backoff(LATER_DELAY_S if what is ComeBack.LATER else 0.0), why)

    def not_connected(
        self, why: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> Decision:
        """No WebSocket came to be: no route, or an HTTP answer with ``status``."""
        if self.state.ended:
            return WatchFinished(self.status, f"{self.operation}: {self.status}")
        if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
            return WatchFinished(self.status, f"{self.base} answered {status}: {why}", status)
        self._next_replica()
        return Return(self._backoff(min(retry_after_s or 0.0, ASKED_DELAY_MAX_S)), why)

    def _next_replica(self) -> None:
        self._at = (self._at + 1) % len(self.bases)
        self.connected = False
        self.reconnects += 1

    def _backoff(self, least_s: float) -> float:
        delay_s = least_s + self._rng.uniform(0, delay_bound_s(self._failures))
        self._failures += 1
        return delay_s


def delay_bound_s(failures: int) -> float:
    """A delay is uniform up to this bound, which doubles with each failure in a row."""
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures, 16))


def _meaning(code: int) -> str:
    row = CLOSE_CODES.get(code)
    if row is None:
        return f"close code {code}"
    return "the connection broke" if row is ABNORMAL else row.meaning


def printable(text: str) -> str:
    """JSON can name half a surrogate pair, which no terminal and no file can take."""
    return text.encode(errors="replace").decode()


def milliseconds(entry_id: str) -> int | None:
    """The time in an entry's id; None where it is none."""
    position = read_position(entry_id)
    return None if position is None else position.ms
