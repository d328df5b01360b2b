"""Who leads: what one candidate knows of the Lease, without a clock and without a network.

    FOLLOWING --the record is free, or nobody renewed it for its duration--> may write
    FOLLOWING --there is no record, and none was seen for its duration--> may write
    FOLLOWING --own write accepted--> LEADING
    LEADING   --renewed in time--> LEADING
    LEADING   --no renewal accepted for `deadline_s`, or the record is another's--> FOLLOWING
    any       --release--> GONE, for good

As in client-go, times of other machines are never compared with ours: a record is as old as the
time since we last saw it change, by our own monotonic clock. A leader counts from the moment it
*sent* a renewal, a candidate from the moment it *read* it, and `deadline_s` is below `duration_s`:
so a leader knows that it leads no more before anyone else may begin. Every write carries the
version that was read, so of two candidates one is refused.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tidegate_operator.kube.lease import Record, Write

#: A record that asks for more is a mistake or malice; nobody waits longer for a dead holder.
DURATION_MAX_S = 60.0


class ElectionPhase(enum.Enum):
    """What a candidate is, by the last thing it learned; ask `Election.leads` what holds now."""

    FOLLOWING = "following"
    LEADING = "leading"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Terms:
    """The times of an election, in seconds.

    Attributes:
        duration_s: what others wait after a renewal that was the last.
        deadline_s: a leader without an accepted renewal for so long stops.
        renew_s: time between two renewals, and between two looks of a candidate.
    """

    duration_s: float = 10.0
    deadline_s: float = 7.0
    renew_s: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.renew_s < self.deadline_s < self.duration_s <= DURATION_MAX_S:
            raise ValueError(
                f"an election needs 0 < renew_s < deadline_s < duration_s <= {DURATION_MAX_S:.0f}"
            )


class Election:
    """One candidate. `now` is always its own monotonic clock, in seconds.

    Two processes may have the same identity, such as a container and the one it replaced: a record
    is one's own only if it carries a renewal that this process has sent.
    """

    def __init__(self, identity: str, terms: Terms) -> None:
        self.identity = identity
        self.terms = terms
        self.phase = ElectionPhase.FOLLOWING
        self._record: Record | None = None
        self._changed_at = 0.0
        self._leads_until = float("-inf")
        #: The renewal on its way, whose answer may get lost: its text, and when it was sent.
        self._sent: tuple[str, float] | None = None
        #: The last renewal that is known to have been accepted.
        self._own = ""

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; empty if nobody."""
        return "" if self._record is None else self._record.holder

    def leads(self, now: float) -> bool:
        """Whether this candidate leads now. The answer is false before anyone else's is true."""
        return self.phase is ElectionPhase.LEADING and now < self._leads_until

    def sees_leader(self, now: float) -> bool:
        """Whether someone leads, as far as is known: this one, or the holder of the Lease."""
        if self.leads(now):
            return True
        record = self._record
        if record is None or not record.holder or self.phase is ElectionPhase.LEADING:
            return False
        return now < self._changed_at + self._patience_s(record)

    def left_s(self, now: float) -> float:
        """How long it leads yet without another renewal; 0 if it does not lead."""
        return max(0.0, self._leads_until - now) if self.phase is ElectionPhase.LEADING else 0.0

    def look(self, now: float) -> Write | None:
        """What to write without reading first: the next renewal of a leader."""
        if not self.leads(now):
            self._lapse(now)
            return None
        record = self._record
        if record is None:
            return None
        return Write(self.identity, record.transitions, record.version, begins=False)

    def read(self, record: Record | None, now: float) -> Write | None:
        """The Lease was read (None: there is none); what to write now, if anything."""
        if self.phase is ElectionPhase.GONE:
            return None
        if record is None:
            return self._missing(now)
        if self._is_mine(record):
            self._accept(record)
        elif self._record is None or _differs(record, self._record):
            self._changed_at = now
            self.phase = ElectionPhase.FOLLOWING  # also a leader: the Lease is another's
        self._record = record
        self._lapse(now)
        if self.phase is ElectionPhase.LEADING:
            return Write(self.identity, record.transitions, record.version, begins=False)
        if record.holder == self.identity and record.renewed == self._own:
            # It had lapsed for us, and nobody took it: the version proves that nobody does now.
            return Write(self.identity, record.transitions, record.version, begins=True)
        if record.holder and now < self._changed_at + self._patience_s(record):
            return None
        return Write(self.identity, record.transitions + 1, record.version, begins=True)

    def sending(self, renewed: str, now: float) -> None:
        """A write is about to be sent, with this time of renewal in it."""
        self._sent = (renewed, now)

    def written(self, record: Record, now: float) -> None:
        """The write was accepted, and this is the Lease now."""
        if self.phase is not ElectionPhase.GONE and self._is_mine(record):
            self._record = record
            self._changed_at = now
            self._accept(record)
            self._lapse(now)

    def release(self, now: float) -> Write | None:
        """Lead no more, whatever comes; what to write so that the next need not wait."""
        led = self.leads(now)
        self.phase = ElectionPhase.GONE
        self._leads_until = float("-inf")
        if not led or self._record is None:
            return None
        return Write("", self._record.transitions, self._record.version, begins=False)

    def _missing(self, now: float) -> Write | None:
        """There is no Lease: nobody made it yet, or it was deleted, which ends every leadership.

        Its holder makes it again at once. Others wait as after its last renewal, because it may not
        know yet, and leads until its deadline.
        """
        before, led = self._record, self.leads(now)
        self.phase = ElectionPhase.FOLLOWING
        if not led and self.sees_leader(now):
            return None
        self._record = None
        return Write(self.identity, before.transitions if before else 0, None, begins=True)

    def _patience_s(self, record: Record) -> float:
        """How long its holder is waited for after its last renewal."""
        return min(max(record.duration_s, self.terms.duration_s), DURATION_MAX_S)

    def _is_mine(self, record: Record) -> bool:
        return (
            record.holder == self.identity
            and self._sent is not None
            and record.renewed == self._sent[0]
        )

    def _accept(self, record: Record) -> None:
        if self._sent is not None and record.renewed == self._sent[0]:
            self.phase = ElectionPhase.LEADING
            self._own = record.renewed
            self._leads_until = self._sent[1] + self.terms.deadline_s

    def _lapse(self, now: float) -> None:
        if self.phase is ElectionPhase.LEADING and now >= self._leads_until:
            self.phase = ElectionPhase.FOLLOWING


def _differs(one: Record, other: Record) -> bool:
    return (one.holder, one.renewed, one.transitions) != (
        other.holder,
        other.renewed,
        other.transitions,
    )
