"""What became of an update that the application sent."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Stored(enum.Enum):
    """Whether an update is in the operation's stream."""

    YES = "yes"
    NO = "no"
    UNCERTAIN = "the answer was lost"


class Sent(NamedTuple):
    """The answer of `send_update`.

    Attributes:
        stored: only with YES will viewers on other processes and later ones see it.
        id: the entry's id, when stored.
        local_viewers: without YES, the viewers of this process that were given the update, as a
            frame without an id; it comes from no stream, so it cannot be replayed.
        reason: without YES, why.
    """

    stored: Stored
    id: str | None = None
    local_viewers: int = 0
    reason: str | None = None
