"""When to call `dispatch` for one stream: the doorbell policy of one replica.

`dispatch` reads the stream, which arms this replica's doorbell; the next write rings it once.
When many replicas watch a stream, one of them should answer each ring and the others learn from the
relay:

    LEADING    a ring is answered at once
    FOLLOWING  armed; a ring is only noted: the relay should bring the entries within the grace
    LISTENING  not armed since that ring; arms again when `follow_arm_s` have nearly passed

    LEADING --follow_after foreign relays in a row--> FOLLOWING
    FOLLOWING --ring, relay in time--> LISTENING --follow_arm_s--> look --> FOLLOWING
    FOLLOWING --ring, no relay within follow_grace_s--> dispatch, which found entries --> LEADING

So an entry waits at most `follow_arm_s` + `follow_grace_s` for a follower when the leader dies
(design: under 3 s).

Publishers dispatch what they write in the same step, so their relays come with the ring and do not
show whether a replica leads: a plain write after them rings the replicas that are armed, and none
of them may answer. A replica that sees only publishers follows them as well, because otherwise each
publish would cost a dispatch per replica, but with waits that are too short to be noticed
(`PUBLISHED_ARM_S`, `PUBLISHED_GRACE_S`).

Pure: `now` is an argument, and the result is a due time or that a dispatch is due now. A dispatch
in flight covers every ring that arrives before its reply, because the server sends both in order.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class DispatchRole(enum.Enum):
    """What this replica does about a ring."""

    LEADING = "leading"
    FOLLOWING = "following"
    LISTENING = "listening"


class Origin(enum.Enum):
    """Who has dispatched the entries of a relay."""

    SELF = "self"
    #: Another replica, which will dispatch the next ones too.
    REPLICA = "replica"
    #: The script that wrote them (`publish.lua`). It does not dispatch what others write.
    PUBLISHER = "publisher"


#: Members of enums that each entry needs, as constants; see `model.frames`.
_LEADING: Final = DispatchRole.LEADING
_LISTENING: Final = DispatchRole.LISTENING
_SELF: Final = Origin.SELF
#: The doorbell is armed again this long after the relay of a publisher, rounded down to
#: `ARM_SLOT_S`: at most 25 times a second per replica and stream, for a tenth of what a publish
#: costs Redis (`redis.dispatcher`, 1.3 of 11 us).
PUBLISHED_ARM_S = 0.06
#: Streams that are to be armed within the same slot are armed together, by one write: waking Redis
#: for each would cost more than the command itself (docs/performance.md).
ARM_SLOT_S = 0.02
#: One script writes and relays, so the relay of a publish arrives with its ring. After this time
#: the ring was that of a plain write.
PUBLISHED_GRACE_S = 0.01


class ArmingRules(NamedTuple):
    """The settings `dispatch.follow_*`."""

    follow_after: int
    follow_arm_s: float
    follow_grace_s: float


class Arming:
    """The doorbell policy of one stream. Methods answer: when to dispatch (a time), or None for not
    yet.
    """

    __slots__ = (
        "_claims",
        "_foreign_in_a_row",
        "_has_leader",
        "_published_in_a_row",
        "_rules",
        "_rung",
        "due",
        "in_flight",
        "role",
    )

    def __init__(self, rules: ArmingRules) -> None:
        self._rules = rules
        self._foreign_in_a_row = 0
        self._published_in_a_row = 0
        #: Another replica is known to answer rings.
        self._has_leader = False
        self._rung = False
        #: The call in flight answers a ring; one that only arms proves nothing about the leader.
        self._claims = False
        self.role = DispatchRole.LEADING
        self.in_flight = False
        #: When `dispatch` is due although nothing else happens; None = a ring will tell.
        self.due: float | None = None

    def ring(self, now: float) -> bool:
        """The stream was written to. True: dispatch now."""
        if self.in_flight:
            return False
        if self.role is _LEADING:
            return True
        if not self._rung:
            self._rung = True
            self.due = now + (self._rules.follow_grace_s if self._has_leader else PUBLISHED_GRACE_S)
        return False

    def relayed(self, now: float, origin: Origin) -> None:
        """A relay message of this stream arrived."""
        if origin is _SELF:
            self._foreign_in_a_row = self._published_in_a_row = 0
            return
        if origin is Origin.REPLICA:
            self._foreign_in_a_row += 1
            self._has_leader |= self._foreign_in_a_row >= self._rules.follow_after
        else:
            self._published_in_a_row += 1
        if self.role is DispatchRole.LEADING:
            if self._foreign_in_a_row + self._published_in_a_row >= self._rules.follow_after:
                self.role = DispatchRole.FOLLOWING
        elif self._rung:
            self._rung = False
            self.role = DispatchRole.LISTENING
            due = now + (self._rules.follow_arm_s if self._has_leader else PUBLISHED_ARM_S)
            self.due = int(due / ARM_SLOT_S) * ARM_SLOT_S

    def is_due(self, now: float) -> bool:
        """Whether `due` has come."""
        return self.due is not None and now >= self.due and not self.in_flight

    @property
    def only_arms(self) -> bool:
        """Whether the call that is due is only to arm: no write is known that it could find."""
        return self.role is _LISTENING

    def sent(self) -> None:
        """`dispatch` or `look` was sent; either arms the doorbell."""
        self.in_flight = True
        self._claims = self._rung or self.role is _LEADING or not self._has_leader
        self._rung = False
        self.due = None
        if self.role is _LISTENING:
            self.role = DispatchRole.FOLLOWING

    def answered(self, count: int) -> None:
        """`dispatch` was answered; it dispatched `count` entries."""
        self.in_flight = False
        if count and self._claims:
            self.lead()

    def lead(self) -> None:
        """Answer rings at once: this replica dispatches, or what it knew of the others is out of
        date.
        """
        self.role = _LEADING
        self._has_leader = False
        self._foreign_in_a_row = self._published_in_a_row = 0
