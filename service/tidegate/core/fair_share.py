"""Whose turn is next at something that several users want and few can have at a time.

    nobody's --wait--> waiting --next--> holds a turn --give_back(cost)--> nobody's

Who comes first is decided by user, so ten requests of one user get what one would: nobody holds
more than `share` turns, and a free one goes to the user who holds the fewest, of those to the one
whose turns have cost the least, of those to the one who has waited longest (start-time fair
queueing: who comes again begins at what the last turn's user had cost, so that a rest earns no
credit). Every other turn goes to a newcomer if there is one: one small wish comes before the next
of many, and however many newcomers there are, the others have half. Within a user it is first come,
first served. Kept per user: its number of turns, and its cost until nobody wants anything.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, NamedTuple, TypeVar

W = TypeVar("W")

#: Outdated places in the line that are kept at the most, beside one for each waiting user.
_STALE_MAX = 64


class _Place(NamedTuple):
    """Of a user in the line; the smallest comes first."""

    held: int
    cost: float
    #: Rises with each user that joins the line, or goes to its end.
    number: int
    user: str


class FairShare(Generic[W]):
    """`turns` at a time, and of these at most `share` for one user. A waiter is any object."""

    def __init__(self, turns: int, share: int) -> None:
        self._free = turns
        self._share = share
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[W]] = {}
        #: The number in the line of each user that waits.
        self._number: dict[str, int] = {}
        self._last_number = 0
        self._line: list[_Place] = []
        #: What each user's turns have cost, on a scale that begins with the first wish.
        self._cost: dict[str, float] = {}
        #: The cost of the user who had a turn last, before it.
        self._now = 0.0
        #: Users who had less than the others when they came: not in the line, in their order.
        self._newcomers: dict[str, None] = {}
        self._was_newcomer = False

    def take(self, user: str) -> bool:
        """A turn at once, if one is free and this user may have one more."""
        if not self._free or self._held.get(user, 0) >= self._share:
            return False
        self._begin(user)
        self._grant(user)
        self._newcomers.pop(user, None)
        self._stand(user)
        return True

    def wait(self, user: str, waiter: W) -> None:
        """Put this waiter behind the others of its user; `next` will name it."""
        waiting = self._waiting.get(user)
        if waiting is None:
            is_newcomer = user not in self._held and self._cost.get(user, 0.0) < self._now
            self._begin(user)
            waiting = self._waiting[user] = deque()
            if is_newcomer:
                self._newcomers[user] = None
            self._move_behind(user)
        waiting.append(waiter)

    def forget(self, user: str, waiter: W) -> None:
        """It does not wait any more, if it did."""
        waiting = self._waiting.get(user)
        if waiting is not None and waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                self._leave_the_line(user)

    def give_back(self, user: str, cost: float = 0.0) -> None:
        """A turn of this user's has ended, and has cost so much: in whatever unit, of this share
        only. Whose it is then, `next` tells.
        """
        self._free += 1
        self._cost[user] = self._cost.get(user, self._now) + cost
        left = self._held[user] - 1
        if left:
            self._held[user] = left
        else:
            del self._held[user]
        if user in self._waiting:
            self._stand(user)
        elif not self._held and not self._waiting:
            self._cost.clear()
            self._now = 0.0
        else:
            self._tidy()

    def next(self) -> tuple[str, W] | None:
        """Give a free turn to who is next; None when none is free or nobody may have one."""
        if not self._free:
            return None
        user = None
        if self._was_newcomer or not self._newcomers:
            user = self._next_in_line()
        self._was_newcomer = user is None and bool(self._newcomers)
        if self._was_newcomer:
            user = next(iter(self._newcomers))
            del self._newcomers[user]
        if user is None:
            return None
        waiting = self._waiting[user]
        waiter = waiting.popleft()
        self._grant(user)
        if waiting:
            self._move_behind(user)
        else:
            self._leave_the_line(user)
        return user, waiter

    def held(self, user: str) -> int:
        """How many turns this user has now."""
        return self._held.get(user, 0)

    @property
    def free(self) -> int:
        """Turns that nobody has."""
        return self._free

    @property
    def waiting(self) -> int:
        """Users who wait."""
        return len(self._waiting)

    # -- inside -----------------------------------------------------------------------------------

    def _next_in_line(self) -> str | None:
        while self._line:
            place = heapq.heappop(self._line)
            if place == self._place(place.user) and place.held < self._share:
                return place.user
            # Outdated, or has its share: with a turn given back it stands in the line again.
        return None

    def _begin(self, user: str) -> None:
        """A user who wanted nothing until now."""
        if user not in self._held and user not in self._waiting:
            self._cost[user] = max(self._now, self._cost.get(user, 0.0))

    def _grant(self, user: str) -> None:
        self._free -= 1
        self._held[user] = self._held.get(user, 0) + 1
        self._now = max(self._now, self._cost[user])

    def _place(self, user: str) -> _Place | None:
        number = self._number.get(user)
        if number is None or user in self._newcomers:
            return None
        return _Place(self._held.get(user, 0), self._cost[user], number, user)

    def _stand(self, user: str) -> None:
        """Its place has changed: an outdated one is passed over when it comes up."""
        place = self._place(user)
        if place is not None:
            heapq.heappush(self._line, place)
        if len(self._line) > 2 * len(self._waiting) + _STALE_MAX:
            places = map(self._place, self._waiting)
            self._line = [place for place in places if place is not None]
            heapq.heapify(self._line)

    def _move_behind(self, user: str) -> None:
        self._last_number += 1
        self._number[user] = self._last_number
        self._stand(user)

    def _leave_the_line(self, user: str) -> None:
        del self._waiting[user]
        del self._number[user]
        self._newcomers.pop(user, None)
        self._tidy()

    def _tidy(self) -> None:
        """A cost that the others have reached says nothing any more."""
        if len(self._cost) > 2 * (len(self._held) + len(self._waiting)) + _STALE_MAX:
            self._cost = {
                user: cost
                for user, cost in self._cost.items()
                if cost > self._now or user in self._held or user in self._waiting
            }
