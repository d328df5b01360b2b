"""Progress at a bounded rate, and never without its last update: leading and trailing edge.

The first update of an operation goes out at once. Those that come within the interval replace one
another; the newest goes out when the interval is over, or earlier when something else of this
operation is sent: it goes first then. So a burst costs two entries, and a bar never stays at 97 %.

Pure: `now` is an argument; who owns a throttle sends what it hands out.
"""

from __future__ import annotations

from tidegate.model.ids import OperationId

#: Operations remembered before those that are quiet are forgotten.
TIDY_ABOVE = 256


class Throttle:
    """Holds at most one update for each operation."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        #: When the next one may go out.
        self._free_at: dict[OperationId, float] = {}
        self._held: dict[OperationId, bytes] = {}

    def offer(self, operation: OperationId, text: bytes, now: float) -> bool:
        """True: send it now. False: it is held, instead of the one before."""
        if now < self._free_at.get(operation, now):
            self._held[operation] = text
            return False
        self._held.pop(operation, None)
        self._sent(operation, now)
        return True

    def take(self, operation: OperationId) -> bytes | None:
        """The held update, to be sent before something else of this operation."""
        return self._held.pop(operation, None)

    def due(self, now: float) -> list[OperationId]:
        """Operations whose held update may go out."""
        return [op for op in self._held if now >= self._free_at[op]]

    def take_due(self, operation: OperationId, now: float) -> bytes | None:
        """The held update, if it is still there and may go out."""
        if operation not in self._held or now < self._free_at[operation]:
            return None
        self._sent(operation, now)
        return self._held.pop(operation)

    def held(self) -> list[OperationId]:
        """Operations of which an update is held."""
        return list(self._held)

    def put_back(self, operation: OperationId, text: bytes, again_at: float) -> None:
        """It was not sent; it is due again at this time, unless a newer one is held by then."""
        self._held.setdefault(operation, text)
        self._free_at[operation] = again_at

    def forget(self, operation: OperationId) -> None:
        """The operation has ended."""
        self._held.pop(operation, None)
        self._free_at.pop(operation, None)

    def next_due(self) -> float | None:
        """When `due` will have something; None: nothing is held."""
        return min((self._free_at[operation] for operation in self._held), default=None)

    def _sent(self, operation: OperationId, now: float) -> None:
        if len(self._free_at) > TIDY_ABOVE and operation not in self._free_at:
            quiet = [op for op, at in self._free_at.items() if at <= now and op not in self._held]
            for op in quiet:
                del self._free_at[op]
        self._free_at[operation] = now + self._interval_s
