"""The clock of a server, told by this process' monotonic clock: server time = monotonic time +
offset.

An answer with the server's time was given somewhere within its round trip, so the middle of that is
off by half of it at the most (F. Cristian, Probabilistic clock synchronization, 1989). Of the last
answers the one with the smallest bound counts; a bound grows with its age, because clocks drift.
That is the clock filter of RFC 5905, section 10, with its `PHI` (section 7.2). Pure: times are
arguments, in seconds. That nobody sets the monotonic clock is what makes a change of the server's
clock stand out.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

#: Answers that are kept (RFC 5905: NSTAGE).
STAGES = 8
#: Drift of two clocks against each other, in seconds per second (RFC 5905: PHI).
PHI = 15e-6


class _Answer(NamedTuple):
    offset_s: float
    bound_s: float
    at: float

    def error_s(self, now: float) -> float:
        return self.bound_s + PHI * (now - self.at)


class ServerClock:
    """Feed it with `answered`; read `offset_s`."""

    __slots__ = ("_answers", "_best", "offset_s")

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=STAGES)
        self._best: _Answer | None = None
        #: Server time minus monotonic time; None before the first answer.
        self.offset_s: float | None = None

    def answered(self, sent: float, received: float, told_s: float) -> None:
        """A question that was sent and answered at these monotonic times; `told_s` is the server's
        time in it, as seconds since the epoch.
        """
        new = _Answer(told_s - (sent + received) / 2, (received - sent) / 2, received)
        best = self._best
        if best is not None:
            apart_s = abs(new.offset_s - best.offset_s)
            if apart_s > new.bound_s + best.error_s(received):
                self._answers.clear()  # both cannot be true: the server's clock was set
        self._answers.append(new)
        self._best = min(self._answers, key=lambda answer: answer.error_s(received))
        self.offset_s = self._best.offset_s

    def forget(self) -> None:
        """It may be another server from now on."""
        self._answers.clear()
        self._best = None
        self.offset_s = None

    def error_s(self, now: float) -> float:
        """Bound of the error of `offset_s` at this monotonic time; infinite before an answer."""
        return float("inf") if self._best is None else self._best.error_s(now)
