"""When a viewer's token ends: a warning ahead, then the close; a renewed token starts over.

    VALID --`warn_s` before the end--> WARNED --the end--> ENDED
    VALID, WARNED --renewed by the same user--> VALID
    ENDED --renewed--> stays ENDED: the close is on its way

Pure: `now` and `expires_at` are wall time in epoch seconds. `due` says when to call `step` next; a
clock that was set back makes it answer None, and `due` still holds.
"""

from __future__ import annotations

import enum

WARN_S = 60.0


class ExpiryState(enum.Enum):
    """Where a token is in its life."""

    VALID = "valid"
    WARNED = "warned"
    ENDED = "ended"


class Expiry:
    """The end of one viewer's token; `expires_at` None means never."""

    __slots__ = ("_warn_s", "expires_at", "state", "user")

    def __init__(self, user: str, expires_at: float | None, *, warn_s: float = WARN_S) -> None:
        self.user = user
        self.expires_at = expires_at
        self.state = ExpiryState.VALID
        self._warn_s = warn_s

    @property
    def due(self) -> float | None:
        """When the next step is; None when there is none."""
        if self.expires_at is None or self.state is ExpiryState.ENDED:
            return None
        if self.state is ExpiryState.WARNED:
            return self.expires_at
        return self.expires_at - self._warn_s

    def step(self, now: float) -> ExpiryState | None:
        """The state that is reached now: WARNED, say so to the viewer; ENDED, close with 4401.

        None: nothing has changed. One that is past its end goes to ENDED without a warning.
        """
        due = self.due
        if due is None or self.expires_at is None or now < due:
            return None
        self.state = ExpiryState.ENDED if now >= self.expires_at else ExpiryState.WARNED
        return self.state

    def left_s(self, now: float) -> float | None:
        """Seconds until the end, for the warning; None when there is no end."""
        return None if self.expires_at is None else max(0.0, self.expires_at - now)

    def renew(self, user: str, expires_at: float | None) -> bool:
        """A verified token has come. False: it is another user's, or too late; nothing changes.

        The new end counts also when it is nearer than the old one.
        """
        if user != self.user or self.state is ExpiryState.ENDED:
            return False
        self.expires_at = expires_at
        self.state = ExpiryState.VALID
        return True
