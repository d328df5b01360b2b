"""When to look whether someone asks to cancel an operation: pure, one look a second for each.

An operation is looked at while someone asks about it (`ask`, within the last seconds), or has left
a function to call (`watch`). That it was asked for stays known until the operation is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

from tidegate.model.ids import OperationId

OnCancel = Callable[[], object]
EVERY_S = 1.0
#: Nobody has asked for so long: not interested any more.
INTEREST_S = 5.0
MAX_OPERATIONS = 1_000


class _Look:
    __slots__ = ("asked", "asked_at", "call", "due_at")

    def __init__(self, now: float) -> None:
        self.asked = False
        self.asked_at = now
        self.due_at = now
        self.call: OnCancel | None = None


class CancelWatch:
    """Of at most `MAX_OPERATIONS` operations; of others nobody learns."""

    def __init__(self) -> None:
        self._looks: dict[OperationId, _Look] = {}

    def ask(self, operation: OperationId, now: float) -> tuple[bool, bool]:
        """Whether it was asked to cancel, and whether it is looked at only from now on."""
        look = self._looks.get(operation)
        if look is None:
            return False, self._begin(operation, now) is not None
        is_new = look.call is None and now > look.asked_at + INTEREST_S
        look.asked_at = now
        return look.asked, is_new

    def watch(self, operation: OperationId, call: OnCancel, now: float) -> None:
        """Call this, once."""
        look = self._looks.get(operation) or self._begin(operation, now)
        if look is not None:
            look.call = call
            look.due_at = min(look.due_at, now)

    def forget(self, operation: OperationId) -> None:
        """It has ended."""
        self._looks.pop(operation, None)

    def due(self, now: float) -> OperationId | None:
        """One to look at now."""
        for operation, look in self._looks.items():
            if look.due_at <= now and self._is_wanted(look, now):
                look.due_at = now + EVERY_S
                return operation
        return None

    def next_due(self) -> float | None:
        """When `due` may have one; None: nobody is interested."""
        wanted = [
            look.due_at for look in self._looks.values() if self._is_wanted(look, look.due_at)
        ]
        return min(wanted, default=None)

    def looked(self, operation: OperationId, asked: bool, now: float) -> list[OnCancel]:
        """The answer of a look; what is to be called."""
        look = self._looks.get(operation)
        if look is None:
            return []
        look.due_at = now + EVERY_S
        look.asked = look.asked or asked
        if not look.asked or look.call is None:
            return []
        call, look.call = look.call, None
        return [call]

    def _is_wanted(self, look: _Look, now: float) -> bool:
        if look.asked:
            return look.call is not None
        return look.call is not None or now <= look.asked_at + INTEREST_S

    def _begin(self, operation: OperationId, now: float) -> _Look | None:
        if len(self._looks) >= MAX_OPERATIONS:
            quiet = [
                one
                for one, look in self._looks.items()
                if look.call is None and now > look.asked_at + INTEREST_S
            ]
            for one in quiet:
                del self._looks[one]
            if len(self._looks) >= MAX_OPERATIONS:
                return None
        look = self._looks[operation] = _Look(now)
        return look
