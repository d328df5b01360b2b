"""Connection slots as the rest of the gateway sees them: the answers and the port.

A slot is one live connection of a user, counted over all replicas. The keeper behind the port is
`tidegate.redis.slots`; what it answers is closed over here so that the web layer needs no Redis
type. A pod's incarnation is `<pod>.<order>.<random>`: unique, never re-used, and dead forever once
its lease has lapsed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Taken:
    """The connection has its slot; `count` is the user's number of slots with it."""

    count: int


@dataclass(frozen=True, slots=True)
class Full:
    """Refused: the user has `count` slots and `limit` is what this connection may bring it to."""

    count: int
    limit: int


class Victim(NamedTuple):
    """A connection that lost its slot to a newer one, and the pod that must close it (4409)."""

    connection: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """The connection has its slot, and took it from the oldest."""

    count: int
    victims: tuple[Victim, ...]


Verdict = Taken | Full | Replaced


class SlotKeeper(Protocol):
    """Counts the connections of users."""

    async def take(self, user: str, connection: str, limit: int | None = None) -> Verdict:
        """Ask for a slot; the same connection may ask again and is counted once.

        Args:
            user: whose limit it is.
            connection: unique over all replicas and forever, see `new_connection_id`.
            limit: of this connection's token; None for the setting, 0 for no limit (no slot).

        Raises:
            RedisUnavailable: within `slots.wait_s`; nothing is held. The caller has the policy.
        """

    def take_locally(self, user: str, connection: str, limit: int | None = None) -> Taken | Full:
        """Ask while Redis is away: this replica's own count decides.

        The slot is asserted when Redis is back, and may then turn out to be above the limit.
        """

    def release(self, user: str, connection: str) -> None:
        """Give a slot back; any number of times, also for a connection that never had one."""


def new_connection_id() -> str:
    """An id for a connection: 96 random bits, so no two replicas ever make the same."""
    return secrets.token_hex(12)


def pod_of(incarnation: str) -> str:
    """The name of the pod that an incarnation belongs to."""
    return incarnation.rsplit(".", 2)[0]
