"""Replay buffers of operations, and what ends an operation."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tidegate.model.entries import TerminalRules
from tidegate.model.folded_state import APPEND, MERGE, REPLACE
from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant, Words


class TopicSettings(Group):
    """Operations with viewers on a replica: replay buffers, what ends an operation, and limits."""

    group_name = "topic"

    #: Number of recent entries kept per operation: replay without Redis for a viewer that was
    #: disconnected for moments.
    ring_entries: Constant[int] = 256
    #: Maximum size of one replay buffer.
    ring_bytes: Constant[int] = 262_144
    total_ring_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_073_741_824,
            description="Maximum memory of all replay buffers; the least recently used are "
            "dropped first.",
        ),
    ] = 67_108_864
    #: How long an operation without viewers is kept, so that a page reload finds it in memory.
    linger_s: Constant[float] = 5.0
    terminal_statuses: Annotated[
        Words, Field(description="Values of `data.status` that end an operation.")
    ] = ("completed", "failed", "cancelled")
    terminal_types: Annotated[
        Words, Field(description="Entry types that end an operation, regardless of their data.")
    ] = ("operation_completed", "operation_failed", "operation_cancelled")
    conflated_types: Annotated[
        Words,
        Field(
            description="Entry types of which a lagging viewer receives only the latest. Entries "
            "of other types are never skipped."
        ),
    ] = ("progress",)
    append_types: Annotated[
        Words,
        Field(
            max_length=16,
            description="Entry types whose `data.text` is joined to the `text` of the state; "
            "`data.fold` of an entry takes precedence. Late, resuming and lagging viewers receive "
            "consecutive entries of such a type joined into one frame; empty: every entry is sent "
            "as a frame of its own.",
        ),
    ] = ("append",)
    merge_types: Annotated[
        Words,
        Field(
            description="Entry types whose `data` is a JSON merge patch (RFC 7396) for `merged` of "
            "the state; `data.fold` of an entry takes precedence."
        ),
    ] = ("merge",)
    #: Delay from the terminal entry to close 1000, so that an entry written slightly later is still
    #: delivered.
    terminal_grace_s: Constant[float] = 0.5
    #: How long the stream of a followed operation may be missing before its viewers are closed with
    #: 4410; a failover or a re-creation is quicker.
    expired_grace_s: Constant[float] = 5.0
    wait_for_stream_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=86_400,
            description="How long a viewer may wait for a stream that does not exist yet before "
            "it is closed with 4410.",
        ),
    ] = 3_600.0
    max_topics: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="Maximum number of operations with viewers on this replica; further ones "
            "are refused with 1013.",
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
                f"must not contain {both[0]}, which is in topic.terminal_types: "
                "the end of an operation is never skipped",
            )
        folded = sorted({*self.append_types, *self.merge_types} & set(self.conflated_types))
        if folded:
            raise rule_broken(
                "topic.conflated_types",
                ",".join(self.conflated_types),
                f"must not contain {folded[0]}, which is in topic.append_types or "
                "topic.merge_types: without one of its entries the state is another one",
            )
        ends = sorted(set(self.append_types) & set(self.terminal_types))
        if ends:
            raise rule_broken(
                "topic.append_types",
                ",".join(self.append_types),
                f"must not contain {ends[0]}, which is in topic.terminal_types: "
                "the end of an operation is never joined",
            )
        twice = sorted(set(self.append_types) & set(self.merge_types))
        if twice:
            raise rule_broken(
                "topic.merge_types",
                ",".join(self.merge_types),
                f"must not contain {twice[0]}, which is in topic.append_types",
            )
        return self

    def terminal_rules(self) -> TerminalRules:
        """What ends an operation."""
        return TerminalRules(frozenset(self.terminal_statuses), frozenset(self.terminal_types))

    def folds(self) -> dict[str, str]:
        """How the types are folded whose names do not tell it: what `fold` of their frames says."""
        rules = dict.fromkeys(self.append_types, APPEND) | dict.fromkeys(self.merge_types, MERGE)
        for type_ in (APPEND, MERGE):
            if rules.setdefault(type_, REPLACE) == type_:
                del rules[type_]
        return rules
