"""The connection limits of a replica: which connections are refused before they are authenticated,
and which are open.

Refusals are plain HTTP responses (503 with `Retry-After`): they cost next to nothing, and another
replica may have room. A drain disconnects `connections`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from tidegate.core.connection_record import ConnectionObserver, Unobserved
from tidegate.core.token_bucket import TokenBucket
from tidegate.model.close_codes import CloseCode
from tidegate.model.settings import ReplicaSettings
from tidegate.web.problem import last_answer


class Connection(Protocol):
    """An open connection of any kind."""

    def ask_to_reconnect(self, after_ms: int) -> None:
        """Tell it to come back after this time, and close."""

    @property
    def unsent_bytes(self) -> int:
        """What was written and the kernel has not taken yet."""

    def abort(self, code: CloseCode) -> None:
        """Close without sending what is unsent; `code` is for the record only."""


class ConnectionLimiter:
    """Counts connections in and out; all ways in pass it."""

    def __init__(self, limits: ReplicaSettings) -> None:
        self._limits = limits
        self._bucket = TokenBucket(limits.connects_per_s, limits.connects_burst)
        self._inside: dict[Connection, Callable[[], None] | None] = {}
        self.is_shut = False
        #: The container's memory is nearly used up: nobody new, until it is better.
        self.is_short_of_memory = False
        self.refusals: Counter[str] = Counter()
        #: Told of every connection that has come in, and when it is gone.
        self.observer: ConnectionObserver = Unobserved()

    def __len__(self) -> int:
        return len(self._inside)

    def refusal(self, now: float) -> str | None:
        """Why one more connection cannot come in now; None when it may."""
        reason = None
        if self.is_shut:
            reason = "draining"
        elif self.is_short_of_memory:
            reason = "memory"
        elif len(self._inside) >= self._limits.max_connections:
            reason = "connections"
        elif not self._bucket.take(now):
            reason = "connect_rate"
        if reason is not None:
            self.refusals[reason] += 1
        return reason

    def enter(self, connection: Connection) -> None:
        """It came in."""
        self._inside[connection] = None

    def when_gone(self, connection: Connection, call: Callable[[], None]) -> None:
        """Call this when it leaves."""
        if connection in self._inside:
            self._inside[connection] = call
        else:
            call()

    def leave(self, connection: Connection) -> None:
        """It is gone; safe to call twice."""
        call = self._inside.pop(connection, None)
        if call is not None:
            call()

    def some(self, number: int) -> list[Connection]:
        """So many of those inside, the longest there first."""
        return [connection for connection, _ in zip(self._inside, range(number), strict=False)]

    def with_most_unsent(self) -> list[tuple[int, Connection]]:
        """Those with unsent bytes, and how many; most first."""
        sizes = [(connection.unsent_bytes, connection) for connection in self._inside]
        return sorted((one for one in sizes if one[0]), key=lambda one: one[0], reverse=True)


def unavailable(reason: str) -> bytes:
    """The HTTP answer of a refusal."""
    text = f"this replica cannot accept the connection: {reason}; retry, or try another replica"
    return last_answer(503, reason, text, retry=True)
