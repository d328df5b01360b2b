"""The steps of a plan as script calls, and their answers as counts."""

from __future__ import annotations

from typing import Any, NamedTuple

from tidegate.redis.lua import Argument
from tidegate_operator.redis import lua
from tidegate_operator.redis.primary import MOVED, Call, is_error
from tidegate_operator.streams.look import Look
from tidegate_operator.streams.plan import (
    DropGroup,
    Expire,
    RemoveConsumer,
    RemoveGroup,
    Revive,
    Step,
    TrimEntries,
    TrimFeed,
)
from tidegate_operator.streams.report import Tally

#: Entries that one trim removes at the most: some 10 ms of Redis.
TRIM_MOST = 100_000
#: Pending entries that are handed over at a time, and how often in one script.
CLAIM_BATCH = 100
CLAIM_TIMES = 5


class GroupNames(NamedTuple):
    """The gateway's group, and the group that is the sweep's mark."""

    group: str
    mark: str

    @classmethod
    def of(cls, group: str) -> GroupNames:
        return cls(group, f"{group}:expiry")


class Act(NamedTuple):
    """A step for a stream. `shortens`: because Redis is full."""

    look: Look
    step: Step
    shortens: bool = False


def call_of(act: Act, names: GroupNames) -> Call:
    """The script that takes this step."""
    look, step = act.look, act.step
    judged_by = (str(look.last), "" if look.entry is None else str(look.entry.id))
    match step:
        case Expire():
            args: tuple[Argument, ...] = (names.mark, *judged_by, step.at_ms, step.least_ms)
            args += (int(step.unwatched), names.group, *step.dead)
            return Call(lua.EXPIRE, look.key, args)
        case Revive(mark):
            noted = (str(mark.position), mark.expires_at_ms)
            return Call(lua.REVIVE, look.key, (names.mark, *noted))
        case TrimEntries(keep):
            limits = (keep, TRIM_MOST)
            return Call(lua.TRIM, look.key, (*judged_by, *limits, names.group, names.mark))
        case TrimFeed(keep, oldest_ms):
            bounds = (keep, oldest_ms, TRIM_MOST)
            return Call(lua.TRIM_FEED, look.key, (*judged_by, *bounds, names.group, names.mark))
        case RemoveConsumer(name, heir, fresh_ms):
            args = (names.group, name, heir or "", CLAIM_BATCH, CLAIM_TIMES, fresh_ms)
            return Call(lua.REMOVE_CONSUMER, look.key, args)
        case DropGroup():
            return Call(lua.DROP_GROUP, look.key, (names.group, names.mark))
        case RemoveGroup():
            return Call(lua.REMOVE_GROUP, look.key, (names.group, *judged_by))


def count_reply(act: Act, reply: Any, tally: Tally) -> None:
    """Count what a step came to."""
    if isinstance(reply, MOVED):
        tally.left["moved"] += 1
    elif is_error(reply):
        tally.left["refused"] += 1
    elif isinstance(act.step, TrimEntries | TrimFeed):
        outcome, entries = reply
        tally.done["trimmed_entries"] += entries
        _count(act, outcome.decode(), tally)
    else:
        _count(act, reply.decode(), tally)


def count_planned(act: Act, tally: Tally) -> None:
    """Count a step that a dry run does not take."""
    if isinstance(act.step, TrimEntries | TrimFeed):
        tally.done["trimmed_entries"] += max(0, (act.look.length or 0) - act.step.keep)
    _count(act, "done", tally)


def _count(act: Act, outcome: str, tally: Tally) -> None:
    if outcome != "done":
        tally.left[outcome] += 1
        return
    match act.step:
        case Expire() if act.shortens:
            tally.done["shortened"] += 1
        case Expire(state):
            tally.expiring[state] += 1
        case Revive():
            tally.done["revived"] += 1
        case TrimEntries() | TrimFeed():
            tally.done["trimmed"] += 1
        case RemoveConsumer():
            tally.done["consumers"] += 1
        case RemoveGroup() | DropGroup():
            tally.done["groups"] += 1
