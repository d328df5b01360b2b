"""When to leave a failing backend alone: a circuit breaker, pure, with the time as an argument.

    CLOSED     requests pass          --failures of `users_max` users in a row--> OPEN
    OPEN       requests are refused   --`open_s` later, at the next request--> TRYING
    TRYING     one at a time passes   --one works--> CLOSED
                                      --failures of `users_max` users--> OPEN

What counts is how many users saw it fail, not how often: one user can have an operation for which
the backend always fails, and must not shut out all others. For the same reason a try that fails
says no more than that this user had no answer: the others may try next, the same user `open_s`
later.

A request that is given up half-way (its viewer went away) has to be reported as such, else the one
that tries would be waited for; for `open_s` at most, then another one may try.
"""

from __future__ import annotations

import enum


class BreakerState(enum.Enum):
    """What happens to requests."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "trying"


class Breaker:
    """Counts users without an answer since the last answer; `now` is any clock that only goes
    forward, in seconds.
    """

    __slots__ = ("_failed", "_open_s", "_since", "_tried", "_users_max", "opened", "state")

    def __init__(self, users_max: int, open_s: float) -> None:
        self._users_max = users_max
        self._open_s = open_s
        #: Who had no answer; at most `users_max`.
        self._failed: set[str] = set()
        self._since = 0.0
        #: When the request that tries was sent; None: none is under way.
        self._tried: float | None = None
        self.state = BreakerState.CLOSED
        #: How often it opened.
        self.opened = 0

    def may_pass(self, user: str, now: float) -> bool:
        """Whether this user's request may be sent; every True is followed by one of the methods
        below.
        """
        if self.state is BreakerState.CLOSED:
            return True
        if now - self._since >= self._open_s:  # the first try, or the tries begin again
            self._enter(BreakerState.TRYING, now)
        if self.state is BreakerState.OPEN or user in self._failed:
            return False
        if self._tried is not None and now - self._tried < self._open_s:
            return False
        self._tried = now
        return True

    def worked(self, now: float) -> None:
        """A request was answered."""
        if self._failed or self.state is not BreakerState.CLOSED:
            self._enter(BreakerState.CLOSED, now)

    def failed(self, user: str, now: float) -> None:
        """This user's request was not answered, or not sensibly."""
        self._tried = None
        if self.state is BreakerState.OPEN:  # sent before it opened
            return
        self._failed.add(user)
        if len(self._failed) >= self._users_max:
            self._enter(BreakerState.OPEN, now)
            self.opened += 1

    def given_up(self) -> None:
        """Nobody waits for the request any more; it says nothing about the backend."""
        self._tried = None

    def _enter(self, state: BreakerState, now: float) -> None:
        self.state = state
        self._since = now
        self._tried = None
        self._failed.clear()
