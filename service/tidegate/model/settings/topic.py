"""What is kept of an operation with viewers, and what ends it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant, Words


class TopicSettings(Group):
    """An operation with viewers on this replica: its ring, its end, its bounds."""

    group_name = "topic"

    #: Most recent entries kept per operation: replay without Redis for a viewer that was away for
    #: moments.
    ring_entries: Constant[int] = 256
    #: Most bytes of one such ring.
    ring_bytes: Constant[int] = 262_144
    total_ring_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_073_741_824,
            description="Most bytes of all rings together; the longest unused give way first.",
        ),
    ] = 67_108_864
    #: An operation without viewers is kept this long, so that a reload of a page finds it warm.
    linger_s: Constant[float] = 5.0
    terminal_statuses: Annotated[
        Words, Field(description="Values of `data.status` that end an operation.")
    ] = ("completed", "failed", "cancelled")
    terminal_types: Annotated[
        Words, Field(description="Entry types that end an operation, whatever their data.")
    ] = ("operation_completed", "operation_failed", "operation_cancelled")
    conflated_types: Annotated[
        Words,
        Field(
            description="Entry types of which a lagging viewer needs only the latest: each "
            "replaces the one before. All others are kept."
        ),
    ] = ("progress",)
    #: Time from the terminal entry to close 1000: an entry that was written a moment late is still
    #: seen.
    terminal_grace_s: Constant[float] = 0.5
    #: A watched stream that vanished closes its viewers with 4410 after this long; a failover or a
    #: re-creation is quicker.
    expired_grace_s: Constant[float] = 5.0
    wait_for_stream_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=86_400,
            description="How long a viewer may wait for a stream that does not exist yet, "
            "before 4410.",
        ),
    ] = 3_600.0
    max_topics: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="Most operations with viewers on this replica; above it a new one is "
            "refused with 1013.",
        ),
    ] = 100_000

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.total_ring_bytes < self.ring_bytes:
            raise rule_broken(
                "topic.total_ring_bytes",
                self.total_ring_bytes,
                f"must be at least {self.ring_bytes}, the most of one ring",
            )
        both = sorted(set(self.terminal_types) & set(self.conflated_types))
        if both:
            raise rule_broken(
                "topic.conflated_types",
                ",".join(self.conflated_types),
                f"must not hold {both[0]}, which topic.terminal_types holds: "
                "an end is never skipped",
            )
        return self
