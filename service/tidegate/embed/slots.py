"""How many connections a user may have at a time: the port, and a count within this process.

`LocalSlots` is exact for one process. Where the limit has to hold over all of them, give the
manager slots that count in Redis.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Taken(NamedTuple):
    """The answer to `take`: whether the connection has a slot, and how many the user has."""

    granted: bool
    held: int


class Slots(Protocol):
    """A user's connections."""

    async def take(self, user: str, connection: str, limit: int) -> Taken:
        """One more connection, unless the user has `limit` of them (0: no limit). Idempotent."""

    async def release(self, user: str, connection: str) -> None:
        """This connection is gone. Idempotent."""


class LocalSlots:
    """Counts in this process. Check and count are one step, so that no two callers pass at once."""

    def __init__(self) -> None:
        self._by_user: dict[str, set[str]] = {}

    async def take(self, user: str, connection: str, limit: int) -> Taken:
        held = self._by_user.get(user, set())
        if connection not in held and limit and len(held) >= limit:
            return Taken(granted=False, held=len(held))
        held.add(connection)
        self._by_user[user] = held
        return Taken(granted=True, held=len(held))

    async def release(self, user: str, connection: str) -> None:
        held = self._by_user.get(user)
        if held is not None:
            held.discard(connection)
            if not held:
                del self._by_user[user]

    def count(self, user: str) -> int:
        """Connections of this user now."""
        return len(self._by_user.get(user, ()))
