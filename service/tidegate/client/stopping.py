"""How a worker learns that its operation is to be cancelled: by looking, at most once a second.

No thread, no connection of its own, nothing to close: `cancel_requested` looks into Redis when the
last look is a second old, and says what that one found otherwise. A look that fails is no error,
because Redis may be away for a while and the work should go on; what was found stays found.
"""

from __future__ import annotations

import logging

from tidegate.model.errors import TidegateError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class OperationCancelled(TidegateError):
    """A viewer has asked to cancel the operation.

    Attributes:
        operation: its id.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"operation {operation} was cancelled by a viewer")
        self.operation = operation


class CancelLooks:
    """When to look, and what was found. Pure: `now` is monotonic time in seconds."""

    __slots__ = ("_next_at", "_operation", "_warned", "found")

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._next_at = float("-inf")
        self._warned = False
        self.found = False

    def is_due(self, now: float) -> bool:
        """Whether to look now; if so, the next look is due a second later."""
        if self.found or now < self._next_at:
            return False
        self._next_at = now + LOOK_EVERY_S
        return True

    def failed(self, error: TidegateError) -> None:
        """It could not be told; said once in the log."""
        if not self._warned:
            self._warned = True
            log.warning("cannot tell whether operation %s is cancelled: %s", self._operation, error)
