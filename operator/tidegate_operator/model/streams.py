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
_FINISHED = "How long a stream is kept after its terminal entry. 0: forever."
_FAILED = (
    "How long a stream is kept after a terminal entry that reports a failure: longer, for analysis."
)
_IDLE = (
    "How long a stream without a terminal entry and without viewers is kept after its last entry."
)
_ORPHAN = "How long a stream that never had viewers is kept after its last entry."


class Ttl(Part):
    """How long streams are kept, by state, in seconds; 0 means forever. Running ones are kept."""

    finished_s: Annotated[int, whole(0, YEAR_S, _FINISHED)] = 3_600
    failed_s: Annotated[int, whole(0, YEAR_S, _FAILED)] = 86_400
    idle_s: Annotated[int, whole(0, YEAR_S, _IDLE)] = 86_400
    orphan_s: Annotated[int, whole(0, YEAR_S, _ORPHAN)] = 86_400

    rules = _TTL_RULES


class TtlOverride(Part):
    """Other times for streams with this prefix; the longest matching prefix applies."""

    prefix: Annotated[
        KeyPrefix, Field(description="Prefix of stream names; must begin with `streams.prefix`.")
    ]
    finished_s: Annotated[int | None, whole(0, YEAR_S, _FINISHED)] = None
    failed_s: Annotated[int | None, whole(0, YEAR_S, _FAILED)] = None
    idle_s: Annotated[int | None, whole(0, YEAR_S, _IDLE)] = None
    orphan_s: Annotated[int | None, whole(0, YEAR_S, _ORPHAN)] = None

    rules = _TTL_RULES


class TrimSpec(Part):
    """Trimming. A viewer whose cursor was trimmed receives a `gap` frame."""

    finished_entries: Annotated[
        int | None,
        whole(1, 100_000_000, "Number of newest entries kept in a finished stream; unset: all."),
    ] = None


class FeedSpec(Part):
    """Feeds: streams whose newest entry lists an operation. They are kept short in each sweep."""

    entries: Annotated[int, whole(1, 1_000_000, "Number of newest entries kept in a feed.")] = 200
    max_age_s: Annotated[
        int,
        whole(0, YEAR_S, "How long an entry of a feed is kept; the newest is kept. 0: forever."),
    ] = 604_800


class Pace(Part):
    """Rate of the sweep. It processes one primary at a time."""

    interval_s: Annotated[
        int, whole(10, 86_400, "Time from the end of a sweep to the start of the next.")
    ] = 300
    commands_per_s: Annotated[
        int,
        whole(
            10,
            100_000,
            "Maximum number of commands per second; a script counts as ten. 4,000 are enough for "
            "some 700 streams per second and use 3 to 5 percent of a core of Redis.",
        ),
    ] = 4_000
    scan_count: Annotated[int, whole(10, 10_000, "Keys that Redis examines per SCAN.")] = 500
    changes_per_s: Annotated[
        int, whole(1, 100_000, "Maximum number of scripts per second that make changes.")
    ] = 1_000


class MemorySpec(Part):
    """Protection of the memory of Redis. Running streams are never changed."""

    limit_bytes: Annotated[
        int | None,
        whole(
            1_048_576,
            1 << 50,
            "Memory limit if Redis has no `maxmemory`; unset: no memory protection.",
        ),
    ] = None
    warn_percent: Annotated[
        int, whole(1, 100, "Memory usage from which the condition MemoryPressure is true.")
    ] = 75
    act_percent: Annotated[
        int,
        whole(
            1, 100, "Memory usage from which `shortenedS` applies, to the largest streams first."
        ),
    ] = 90
    shortened_s: Annotated[
        int,
        whole(
            60,
            YEAR_S,
            "Maximum TTL under memory pressure: of finished streams first, then of failed ones.",
        ),
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
    """Clean-up of streams that are no longer needed."""

    enabled: Annotated[bool, Field(strict=True, description="Enable sweeps.")] = True
    dry_run: Annotated[
        bool,
        Field(strict=True, description="Only count what would be done; see `status.lastSweep`."),
    ] = False
    prefix: Annotated[
        KeyPrefix,
        Field(description="Prefix of stream names: `redis.key_prefix` of the gateway."),
    ] = "operation-progress:"
    group: Annotated[_Word, Field(description="Consumer group: `redis.group` of the gateway.")] = (
        "tidegate"
    )
    terminal_statuses: Annotated[
        tuple[_Word, ...],
        Field(
            max_length=64,
            description="Statuses that end an operation: `topic.terminal_statuses` of the gateway.",
        ),
    ] = ("completed", "failed", "cancelled")
    terminal_types: Annotated[
        tuple[_Word, ...],
        Field(
            max_length=64,
            description="Types that end an operation: `topic.terminal_types` of the gateway.",
        ),
    ] = ("operation_completed", "operation_failed", "operation_cancelled")
    failed_statuses: Annotated[
        tuple[_Word, ...],
        Field(
            max_length=64,
            description="Statuses that report a failure; for a type, the part after its last `_` "
            "is compared.",
        ),
    ] = ("failed",)
    ttl: Annotated[Ttl, Field(description="How long streams are kept, by state.")] = Ttl()
    overrides: Annotated[
        tuple[TtlOverride, ...],
        Field(max_length=64, description="Other times for streams with a prefix."),
    ] = ()
    trim: Annotated[TrimSpec, Field(description="Trimming of streams.")] = TrimSpec()
    feeds: Annotated[FeedSpec, Field(description="Trimming of feeds.")] = FeedSpec()
    pace: Annotated[Pace, Field(description="Rate of the sweep.")] = Pace()
    memory: Annotated[MemorySpec, Field(description="Protection of the memory of Redis.")] = (
        MemorySpec()
    )

    rules = (
        Rule(
            f"!({_covers_own_keys_in_cel()})",
            "streams.prefix must not cover keys that the gateway keeps for itself "
            f"({' and '.join(OWN_KEYS)}): use another prefix for streams",
            ".prefix",
            lambda part: not _covers_own_keys(part.prefix),
        ),
        Rule(
            "self.overrides.all(o, o.prefix.startsWith(self.prefix))",
            "streams.overrides: each prefix must begin with streams.prefix, otherwise it would "
            "match nothing",
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
