"""Whether Redis has closed a link because of its output buffer limit.

Redis does not tell the client. Redis 7.2 and Valkey count these disconnects (of all clients
together), so two readings of `INFO` show it; they are taken at the begin of each link and every
minute. Redis 7.0 does not count them, and `INFO` may be forbidden: then it is assumed if the same
server has closed the link while it owed a reply or was in the middle of one.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import hiredis

from tidegate.redis.link import Link, pack

_COUNTER = "client_output_buffer_limit_disconnections"
ASK = pack("INFO", "server", "stats")


class Verdict(enum.Enum):
    """Why a link has ended, as far as its output buffer is concerned."""

    NO = "no"
    LIKELY = "likely: the server kept running and left a reply unfinished"
    COUNTED = "the server counted one more client disconnected for its output buffer"


class ClientCounts(NamedTuple):
    """What a server says of itself; None where it does not.

    Attributes:
        run: differs after each start of the server.
        cuts: clients that it has ended for their output buffer.
    """

    run: str | None = None
    cuts: int | None = None


def read_census(reply: Any) -> ClientCounts:
    """The answer to `ASK`; an error is one, too."""
    if not isinstance(reply, bytes):
        return ClientCounts()
    by = dict(line.partition(":")[::2] for line in reply.decode("utf-8", "replace").splitlines())
    cuts = by.get(_COUNTER, "")
    return ClientCounts(by.get("run_id"), int(cuts) if cuts.isdigit() else None)


async def take_census(link: Link) -> ClientCounts:
    """Of the server at the other end. Raises RedisUnavailable: the connection was lost."""
    try:
        return read_census(await link.call("INFO", "server", "stats"))
    except hiredis.ReplyError:
        return ClientCounts()


def judge(before: ClientCounts, after: ClientCounts, lost: Link) -> Verdict:
    """`before` and `after`: of the server of the lost link, and of the next one."""
    if not lost.ended_by_peer or before.run != after.run:
        return Verdict.NO
    if before.cuts is not None and after.cuts is not None:
        return Verdict.COUNTED if after.cuts > before.cuts else Verdict.NO
    return Verdict.LIKELY if lost.cut_off else Verdict.NO
