"""When to leave a failing backend alone: a circuit breaker, pure, with the time as an argument.

    CLOSED     requests pass          --`failures` in a row--> OPEN
    OPEN       requests are refused   --`open_s` later, at the next request--> TRYING
    TRYING     one request passes     --it works--> CLOSED, --it fails--> OPEN

A request that is given up half-way (its viewer went away) has to be reported as such, else the one
that tries would be waited for; for `open_s` at most, then another one may try.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What happens to requests."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "trying"


class Breaker:
    """Counts failures in a row; `now` is any clock that only goes forward, in seconds."""

    __slots__ = ("_failures", "_failures_max", "_open_s", "_since", "opened", "state")

    def __init__(self, failures: int, open_s: float) -> None:
        self._failures_max = failures
        self._open_s = open_s
        self._failures = 0
        self._since = 0.0
        self.state = State.CLOSED
        #: How often it opened.
        self.opened = 0

    def may_pass(self, now: float) -> bool:
        """Whether a request may be sent; every True is followed by one of the methods below."""
        if self.state is State.CLOSED:
            return True
        if now - self._since < self._open_s:
            return False
        self._enter(State.TRYING, now)
        return True

    def worked(self, now: float) -> None:
        """The request was answered."""
        self._failures = 0
        if self.state is not State.CLOSED:
            self._enter(State.CLOSED, now)

    def failed(self, now: float) -> None:
        """The request was not answered, or not sensibly."""
        self._failures += 1
        if self.state is State.TRYING or self._failures == self._failures_max:
            self._enter(State.OPEN, now)
            self.opened += 1

    def given_up(self, now: float) -> None:
        """Nobody waits for the request any more; it says nothing about the backend."""
        if self.state is State.TRYING:
            self._enter(State.OPEN, now - self._open_s)

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self._since = now
