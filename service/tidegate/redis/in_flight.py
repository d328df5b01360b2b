"""How much may be on its way to one primary's link because this replica asked for it, in bytes.

Redis ends a connection with subscriptions when more than `client-output-buffer-limit pubsub` waits
for it: by default 32 MB at once, or 8 MB for 60 s. Another limit may be set, and we may not ask. So
little is asked for at a time, what is larger is read over an ordinary connection (`pages`), for
which there is no such limit, and a link that died young is followed by one that asks for half.

A third each is for what dispatch calls make Redis relay, for attaches, and for repairs. What other
replicas and publishers have relayed is not asked for and not counted: it is small by itself
(`RELAY_BYTES`).
"""

from __future__ import annotations

MIB = 1_048_576
#: 20 replicas that all dispatch at once relay no more than 20 times a third of it to each.
MOST_BYTES = 3 * MIB
#: One page and a few relay messages.
LEAST_BYTES = 192 * 1024
#: Of a relay message with entries in it: `RELAY_BYTES` in dispatching.lua.
RELAY_BYTES = 16_384
#: Of a page that comes over the link: 100 entries of half a kilobyte.
PAGE_BYTES = 65_536
#: A link that lived so long did not die of what was asked for as it came up: it is the time for
#: which Redis bears more than its soft limit.
STEADY_S = 60.0


class InFlight:
    """What may be asked for at a time; it outlives the links of its primary."""

    def __init__(self) -> None:
        self.limit_bytes = MOST_BYTES

    @property
    def dispatches(self) -> int:
        """Dispatch calls at a time, each of which may relay a message."""
        return max(1, self.limit_bytes // 3 // RELAY_BYTES)

    @property
    def attaches(self) -> int:
        """Attaches at a time, each of which has a page and may relay a message."""
        return max(1, self.limit_bytes // 3 // (PAGE_BYTES + RELAY_BYTES))

    @property
    def reads(self) -> int:
        """Pages at a time."""
        return max(1, self.limit_bytes // 3 // PAGE_BYTES)

    def ask_less(self) -> None:
        """A link has died young, or of what was on its way to it."""
        self.limit_bytes = max(self.limit_bytes // 2, LEAST_BYTES)

    def ask_more(self) -> None:
        """A link has lived for `STEADY_S` with this."""
        self.limit_bytes = min(2 * self.limit_bytes, MOST_BYTES)
