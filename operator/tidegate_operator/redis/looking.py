"""Looks at many streams at once, with plain commands: three times cheaper for Redis than a script
(5 us for a stream against 16), and three times dearer for us.

First what is small for sure, and the stream's size; then the newest entry and the consumers. Where
these may be large a script carries what is bounded; where there is no entry it tells the last id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.model.ids import stream_id
from tidegate.redis.lua import Command
from tidegate_operator.redis import lua
from tidegate_operator.redis.primary import Call, PrimaryClient, is_error
from tidegate_operator.redis.replies import Outline, complete, read_look, read_outline
from tidegate_operator.redis.steps import GroupNames
from tidegate_operator.streams.look import Look

#: A stream above this may have a newest entry that is too large to carry just so.
PLAIN_MAX_BYTES = 131_072
#: Of an entry above this only type, status and what is small is carried.
MAX_ENTRY_BYTES = 262_144
MAX_CONSUMERS = 256
#: Commands for a stream, for the pace; a script is worth so many by what it costs Redis.
LOOK_COST = 5.6
SCRIPT_COST = 10.0


async def look_at(
    primary: PrimaryClient, keys: Sequence[bytes], names: GroupNames, *, with_length: bool
) -> list[Look]:
    """Those of the streams that are there.

    Raises:
        RedisUnavailable: the primary is lost.
    """
    commands: list[Command] = []
    for key in keys:
        commands.append(("PEXPIRETIME", key))
        # The newest entry's node is always counted, the others by a sample.
        commands.append(("MEMORY", "USAGE", key, "SAMPLES", 1))
        commands.append(("XINFO", "GROUPS", key))
    replies = await primary.together(commands)
    outlines = []
    for index, key in enumerate(keys):
        expiry, size, groups = replies[3 * index : 3 * index + 3]
        if not (is_error(expiry) or is_error(size) or is_error(groups)):
            outlines.append(read_outline(key, expiry, size, groups, names))
    plain = [one for one in outlines if _is_plain(one)]
    looks, odd = await _complete(primary, plain, names, with_length=with_length)
    odd += [one for one in outlines if not _is_plain(one)]
    limits = (names.group, MAX_ENTRY_BYTES, MAX_CONSUMERS)
    answers = await primary.run([Call(lua.LOOK, one.key, limits) for one in odd])
    for outline, answer in zip(odd, answers, strict=True):
        look = None if is_error(answer) else read_look(outline, answer)
        if look is not None:
            looks.append(look)
    return looks


async def with_subscribers(primary: PrimaryClient, looks: Sequence[Look]) -> list[Look]:
    """The same looks, knowing how many connections are on the relay channel."""
    replies = await primary.together([("PUBSUB", "SHARDNUMSUB", look.key) for look in looks])
    return [
        look if is_error(reply) else look._replace(subscribers=int(reply[1]))
        for look, reply in zip(looks, replies, strict=True)
    ]


async def with_bounds(primary: PrimaryClient, feeds: Sequence[Look]) -> list[Look]:
    """The same looks, knowing how many entries they have and which is the oldest."""
    commands: list[Command] = []
    for look in feeds:
        commands.append(("XLEN", look.key))
        commands.append(("XRANGE", look.key, "-", "+", "COUNT", 1))
    replies = await primary.together(commands)
    bounded = []
    for look, length, oldest in zip(feeds, replies[::2], replies[1::2], strict=True):
        if is_error(length) or is_error(oldest) or not oldest:
            bounded.append(look)
        else:
            bounded.append(look._replace(length=length, first=stream_id(oldest[0][0])))
    return bounded


def _is_plain(outline: Outline) -> bool:
    return outline.size_bytes <= PLAIN_MAX_BYTES and outline.consumers <= MAX_CONSUMERS


async def _complete(
    primary: PrimaryClient, outlines: Sequence[Outline], names: GroupNames, *, with_length: bool
) -> tuple[list[Look], list[Outline]]:
    """Looks, and those that need another look because they have no entry."""
    commands: list[Command] = []
    for one in outlines:
        commands.append(("XREVRANGE", one.key, "+", "-", "COUNT", 1))
        if one.consumers:
            commands.append(("XINFO", "CONSUMERS", one.key, names.group))
        if with_length:
            commands.append(("XLEN", one.key))
    replies = iter(await primary.together(commands))
    looks: list[Look] = []
    odd: list[Outline] = []
    for one in outlines:
        newest: Any = next(replies)
        consumers: Any = next(replies) if one.consumers else []
        length: Any = next(replies) if with_length else None
        if is_error(newest) or is_error(consumers) or is_error(length) or not newest:
            odd.append(one)
        else:
            looks.append(complete(one, newest, consumers, length))
    return looks, odd
