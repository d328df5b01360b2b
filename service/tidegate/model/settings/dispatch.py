"""When a replica reads new entries from a stream, and how many at once."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant


class DispatchSettings(Group):
    """How entries are taken from a stream and relayed to all replicas."""

    group_name = "dispatch"

    #: Maximum number of entries of one dispatch call. A script blocks Redis while it runs; 500
    #: entries take a few milliseconds.
    max_entries: Constant[int] = 500
    #: Maximum size of one dispatch call; it may exceed this by one chunk of entries. Relay messages
    #: contain at most 16 KiB: replicas read larger entries from the stream.
    max_bytes: Constant[int] = 1_048_576
    max_entry_bytes: Annotated[
        int,
        Field(
            ge=256,
            le=64 * 1_048_576,
            description="Largest entry that viewers receive unchanged. Of a larger one they "
            "receive the type, the status and small fields.",
        ),
    ] = 262_144
    #: Minimum time between two batches of dispatch calls to one primary while two or more streams
    #: are written to: calls are sent together. Under load it saves a third of the cost of an entry
    #: here and in Redis; 0 sends each call at once.
    pace_s: Constant[float] = 0.0007
    #: Interval at which each followed stream is compared with Redis, in case a doorbell was lost.
    #: It is a safety net, so it may be slow.
    sweep_s: Constant[float] = 10.0
    #: After this many consecutive relays from other replicas a replica stops dispatching the stream
    #: and only listens.
    follow_after: Constant[int] = 3
    #: Interval at which a listening replica arms its doorbell: it bounds the delay when the replica
    #: that dispatches dies.
    follow_arm_s: Constant[float] = 1.5
    #: How long a listening replica waits, after its doorbell rings, for the relay of another
    #: replica before it dispatches itself.
    follow_grace_s: Constant[float] = 0.25

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.max_entry_bytes > self.max_bytes:
            raise rule_broken(
                "dispatch.max_entry_bytes",
                self.max_entry_bytes,
                f"must be at most {self.max_bytes}, the most of one call",
            )
        return self
