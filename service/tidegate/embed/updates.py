"""What became of an update that the application sent."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Stored(enum.Enum):
    """Whether an update is in the stream of the operation."""

    YES = "yes"
    NO = "no"
    UNCERTAIN = "the answer was lost"


class Sent(NamedTuple):
    """The result of `send_update`.

    Attributes:
        stored: only with YES do viewers of other processes and later viewers receive the update.
        id: the id of the entry, if it is stored.
        local_viewers: unless stored, how many viewers of this process received the update, as a
            frame without an id; it is in no stream, so it cannot be replayed.
        reason: why it is not stored.
    """

    stored: Stored
    id: str | None = None
    local_viewers: int = 0
    reason: str | None = None
