"""The TCP connections of one listening port: how many there are, and what each may take.

Every one counts, whatever is spoken over it, from its accept to its end. One too many takes the
place of the connection that has been without a request for the longest time; where all are at work
it is refused. The last descriptors of the process are nobody's, so that health is answered when
clients have all the others.

Nothing is known here of viewers; who of them may come in is `web.access.limits`'s to say.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Protocol

from tidegate.model.settings import Settings
from tidegate.web.server.pace import RequestPace

#: Of the process, for what is no client of the public port: Redis, the operation source, the admin
#: port, and connections that are told that there is no room.
DESCRIPTORS_KEPT = 128
#: The admin port's: kubelet, Prometheus, the operator's people. Each holds 100 KB of metrics at
#: the most.
ADMIN_MAX_CONNECTIONS = 64
#: Refused connections that stay for a moment, so that their answer is not lost with what they send.
LINGERING_MAX = 256


class Idle(Protocol):
    """A connection without a request."""

    def make_room(self) -> None:
        """End."""


class PortLimits(NamedTuple):
    """What the connections of a port may take.

    Attributes:
        max_waiting: of them, those that have not sent their first request.
        max_descriptor: a connection with this descriptor or a higher one is refused.
        keep_alive_s: without a request, behind one.
        unread_timeout_s: for an answer of which nothing is read.
    """

    max_connections: int
    max_waiting: int
    max_descriptor: int
    header_max_bytes: int
    header_timeout_s: float
    keep_alive_s: float
    unread_timeout_s: float


class Port:
    """Counts them. `refusals` may be shared with who refuses later."""

    def __init__(self, limits: PortLimits, refusals: Counter[str] | None = None) -> None:
        self.limits = limits
        self.refusals: Counter[str] = Counter() if refusals is None else refusals
        self.open = 0
        #: Whose request is on its way: a head that has begun, or the first of a connection.
        self.waiting = 0
        self.lingering = 0
        #: Of first requests.
        self.pace = RequestPace()
        #: Those without a request, the longest first.
        self.idle: dict[Idle, None] = {}
        #: `left`, one for all connections.
        self.on_left = self.left

    def take_in(self, descriptor: int) -> str | None:
        """Count one more; why it is to be refused all the same, or None."""
        reason = None
        self.open += 1
        if descriptor >= self.limits.max_descriptor:
            reason = "descriptors"
        elif self.open > self.limits.max_connections:
            if self.idle:
                longest = next(iter(self.idle))
                del self.idle[longest]
                longest.make_room()
            else:
                reason = "connections"
        elif self.waiting >= self.limits.max_waiting:
            reason = "waiting"
        if reason is not None:
            self.refusals[reason] += 1
        return reason

    def left(self) -> None:
        """One of them is gone."""
        self.open -= 1


def public_port(settings: Settings, descriptors: int, refusals: Counter[str]) -> Port:
    """For viewers and publishers; `descriptors` is how many the process may have."""
    replica = settings.replica
    limits = _limits(settings, replica.max_connections, replica.connects_burst)
    kept = max(descriptors - DESCRIPTORS_KEPT, descriptors // 2)
    return Port(limits._replace(max_descriptor=kept), refusals)


def admin_port(settings: Settings, descriptors: int) -> Port:
    """For health, metrics and the look inside."""
    limits = _limits(settings, ADMIN_MAX_CONNECTIONS, ADMIN_MAX_CONNECTIONS)
    return Port(limits._replace(max_descriptor=descriptors))


def _limits(settings: Settings, max_connections: int, max_waiting: int) -> PortLimits:
    viewer, replica = settings.viewer, settings.replica
    return PortLimits(
        max_connections=max_connections,
        max_waiting=max_waiting,
        max_descriptor=0,
        header_max_bytes=replica.header_max_bytes,
        header_timeout_s=replica.header_timeout_s,
        keep_alive_s=replica.keep_alive_s,
        # As an event stream, and a socket that answers no ping.
        unread_timeout_s=viewer.ping_interval_s + viewer.ping_timeout_s,
    )
