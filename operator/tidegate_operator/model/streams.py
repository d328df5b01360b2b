"""`spec.streams`: how long a stream is kept, and what the sweep may do to Redis.

What the states mean and how they are found out is in `streams/`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tidegate_operator.model.parts import Part, Rule, whole

YEAR_S = 31_536_000
#: A viewer that was cut off at the end of an operation comes back within this.
TTL_MIN_S = 60

#: A shorter prefix soon matches what others keep on the same server.
PREFIX_MIN_LENGTH = 4
#: Printable ASCII, without the glob characters of SCAN MATCH and without braces, where the gateway
#: has its own keys.
KeyPrefix = Annotated[
    str,
    Field(min_length=PREFIX_MIN_LENGTH, max_length=128, pattern=r"^[A-Za-z0-9_.:@~+=/#-]+$"),
]
#: What the gateway's own keys without braces begin with, see `tidegate.redis.names`; its setting
#: `redis.key_prefix` may not begin so either.
OWN_KEYS = ("tidegate:", "tidegate/")


def _covers_own_keys(prefix: str) -> bool:
    return any(own.startswith(prefix) or prefix.startswith(own) for own in OWN_KEYS)


def _covers_own_keys_in_cel() -> str:
    return " || ".join(
        f"'{own}'.startsWith(self.prefix) || self.prefix.startsWith('{own}')" for own in OWN_KEYS
    )


def _ttl_rule(field: str, name: str) -> Rule:
    def holds(part: Any) -> bool:
        value = getattr(part, field)
        return value is None or value == 0 or value >= TTL_MIN_S

    return Rule(
        f"!has(self.{name}) || self.{name} == 0 || self.{name} >= {TTL_MIN_S}",
        f"{name} must be {TTL_MIN_S} or more, or 0 to keep such streams",
        f".{name}",
        holds,
    )


_TTL_RULES = tuple(
    _ttl_rule(f"{state}_s", f"{state}S") for state in ("finished", "failed", "idle", "orphan")
)
_FINISHED = "Kept after the terminal entry. 0: for ever."
_FAILED = "Kept after a terminal entry that tells of a failure: longer, to be looked at."
_IDLE = "Kept after the last entry where none was terminal and nobody watches."
_ORPHAN = "Kept after the last entry where nobody ever watched."


class Ttl(Part):
    """How long a stream is kept, by its state, in seconds; 0 keeps it. Running ones are kept."""

    finished_s: Annotated[int, whole(0, YEAR_S, _FINISHED)] = 3_600
    failed_s: Annotated[int, whole(0, YEAR_S, _FAILED)] = 86_400
    idle_s: Annotated[int, whole(0, YEAR_S, _IDLE)] = 86_400
    orphan_s: Annotated[int, whole(0, YEAR_S, _ORPHAN)] = 86_400

    rules = _TTL_RULES


class TtlOverride(Part):
    """Other times for the streams whose name begins so; the longest prefix wins."""

    prefix: Annotated[KeyPrefix, Field(description="Begins with `streams.prefix`.")]
    finished_s: Annotated[int | None, whole(0, YEAR_S, _FINISHED)] = None
    failed_s: Annotated[int | None, whole(0, YEAR_S, _FAILED)] = None
    idle_s: Annotated[int | None, whole(0, YEAR_S, _IDLE)] = None
    orphan_s: Annotated[int | None, whole(0, YEAR_S, _ORPHAN)] = None

    rules = _TTL_RULES


class Trim(Part):
    """How many entries stay. A viewer whose cursor was cut off is told by a `gap` frame."""

    finished_entries: Annotated[
        int | None,
        whole(1, 100_000_000, "The newest so many of a finished stream; unset: all."),
    ] = None


class Pace(Part):
    """How fast the sweep goes through Redis: one primary at a time."""

    interval_s: Annotated[int, whole(10, 86_400, "From one sweep's end to the next one.")] = 300
    commands_per_s: Annotated[
        int,
        whole(
            10,
            100_000,
            "Commands to Redis at the most, some 700 streams; a script counts as ten. 4,000 "
            "take 3 to 5 percent of a core of Redis.",
        ),
    ] = 4_000
    scan_count: Annotated[int, whole(10, 10_000, "Keys that Redis looks at in one SCAN.")] = 500
    changes_per_s: Annotated[
        int, whole(1, 100_000, "Scripts that change something, at the most.")
    ] = 1_000


class Memory(Part):
    """What is done when Redis fills up. Running streams are never touched."""

    limit_bytes: Annotated[
        int | None,
        whole(
            1_048_576,
            1 << 50,
            "What counts as full where Redis has no `maxmemory`; unset: then nothing is guarded.",
        ),
    ] = None
    warn_percent: Annotated[
        int, whole(1, 100, "From here on the condition MemoryPressure is true.")
    ] = 75
    act_percent: Annotated[
        int, whole(1, 100, "From here on `shortenedS` holds, the biggest streams first.")
    ] = 90
    shortened_s: Annotated[
        int, whole(60, YEAR_S, "Kept at the most, then: finished streams, after them failed ones.")
    ] = 300

    rules = (
        Rule(
            "self.warnPercent <= self.actPercent",
            "streams.memory.warnPercent must be at most streams.memory.actPercent",
            ".warnPercent",
            lambda part: part.warn_percent <= part.act_percent,
        ),
    )


_Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")]


class Streams(Part):
    """What becomes of streams that nobody needs any longer."""

    enabled: Annotated[bool, Field(strict=True, description="Whether they are swept at all.")] = (
        True
    )
    dry_run: Annotated[
        bool,
        Field(strict=True, description="Only count what would be done; see `status.lastSweep`."),
    ] = False
    prefix: Annotated[
        KeyPrefix,
        Field(description="What names of streams begin with: the gateway's `redis.key_prefix`."),
    ] = "operation-progress:"
    group: Annotated[_Word, Field(description="The gateway's `redis.group`.")] = "tidegate"
    terminal_statuses: Annotated[
        tuple[_Word, ...],
        Field(max_length=64, description="The gateway's `topic.terminal_statuses`."),
    ] = ("completed", "failed", "cancelled")
    terminal_types: Annotated[
        tuple[_Word, ...],
        Field(max_length=64, description="The gateway's `topic.terminal_types`."),
    ] = ("operation_completed", "operation_failed", "operation_cancelled")
    failed_statuses: Annotated[
        tuple[_Word, ...],
        Field(
            max_length=64,
            description="Of the statuses (of a type: what follows its last `_`), those that tell "
            "of a failure.",
        ),
    ] = ("failed",)
    ttl: Annotated[Ttl, Field(description="How long a stream is kept, by its state.")] = Ttl()
    overrides: Annotated[
        tuple[TtlOverride, ...], Field(max_length=64, description="Other times by prefix.")
    ] = ()
    trim: Annotated[Trim, Field(description="How many entries stay.")] = Trim()
    pace: Annotated[Pace, Field(description="How fast the sweep goes.")] = Pace()
    memory: Annotated[Memory, Field(description="What is done when Redis fills up.")] = Memory()

    rules = (
        Rule(
            f"!({_covers_own_keys_in_cel()})",
            "streams.prefix must not cover keys that the gateway keeps for itself "
            f"({' and '.join(OWN_KEYS)}): take another prefix for streams",
            ".prefix",
            lambda part: not _covers_own_keys(part.prefix),
        ),
        Rule(
            "self.overrides.all(o, o.prefix.startsWith(self.prefix))",
            "streams.overrides: each prefix must begin with streams.prefix, or it would match "
            "nothing",
            ".overrides",
            lambda part: all(o.prefix.startswith(part.prefix) for o in part.overrides),
        ),
    )

    def ttl_of(self, key: str) -> Ttl:
        """The times for a stream of this name: those of the longest prefix that fits."""
        fitting = [one for one in self.overrides if key.startswith(one.prefix)]
        if not fitting:
            return self.ttl
        best = max(fitting, key=lambda one: len(one.prefix))
        given = best.model_dump(exclude={"prefix"}, exclude_none=True)
        return self.ttl.model_copy(update=given)
