"""The sweep's work on users' slots: those of pods that are dead forever are given back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tidegate_operator.model.streams import Streams
from tidegate_operator.redis import lua
from tidegate_operator.redis.leases import LeaseView
from tidegate_operator.redis.looking import SCRIPT_COST
from tidegate_operator.redis.primary import BATCH, SCAN_KEY_COST, Call, PrimaryClient, is_error
from tidegate_operator.redis.rate_limiter import SweepRateLimiter
from tidegate_operator.redis.round import Round
from tidegate_operator.streams.liveness import Liveness

_SLOT = re.compile(rb"(\S+) [0-9]+")


class SlotPages:
    """For one sweep and one spec; `prefix` begins the keys of slots, without a glob character."""

    def __init__(
        self, prefix: bytes, streams: Streams, limiter: SweepRateLimiter, leases: LeaseView
    ) -> None:
        self._pattern = prefix + b"*"
        self._streams = streams
        self._limiter = limiter
        self._leases = leases

    async def page(self, at: Round, primary: PrimaryClient) -> bool:
        """A page of users' slots; True after the last. Raises RedisUnavailable, Fenced."""
        liveness = await self._leases.look(at)
        if liveness.order == 0:
            return True  # nobody can be said to be dead
        count = self._streams.pace.scan_count
        await self._limiter.commands(count * SCAN_KEY_COST)
        cursor, keys = await primary.scan(at.cursor, self._pattern, "hash", count)
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            await self._limiter.commands(len(batch))
            values = await primary.values(batch)
            left: list[tuple[Call, int]] = []
            for key, rows in zip(batch, values, strict=True):
                dead = [] if is_error(rows) else _left_over(rows, liveness)
                if dead:
                    left.append((Call(lua.PURGE_SLOTS, key, tuple(sorted(set(dead)))), len(dead)))
            await self._purge(at, primary, left)
        at.cursor = cursor
        return cursor == 0

    async def _purge(
        self, at: Round, primary: PrimaryClient, left: Sequence[tuple[Call, int]]
    ) -> None:
        if self._streams.dry_run or not left:
            at.tally.done["slot_users"] += len(left)
            at.tally.done["slots"] += sum(slots for _, slots in left)
            return
        await self._limiter.commands(len(left) * SCRIPT_COST)
        await self._limiter.changes(len(left))
        self._limiter.check()
        for reply in await primary.run([call for call, _ in left]):
            if is_error(reply):
                at.tally.left["refused"] += 1
            else:
                at.tally.done["slots"] += reply
                at.tally.done["slot_users"] += 1


def _left_over(rows: Sequence[bytes], liveness: Liveness) -> list[str]:
    """The dead incarnation of each slot that is left over."""
    found = [
        match[1].decode(errors="surrogateescape") for row in rows if (match := _SLOT.fullmatch(row))
    ]
    return [one for one in found if liveness.is_dead_incarnation(one)]
