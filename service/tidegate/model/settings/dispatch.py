"""When a replica reads what is new in a stream, and how much at once."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant


class DispatchSettings(Group):
    """How entries are taken from a stream and relayed to all replicas."""

    group_name = "dispatch"

    #: Most entries of one dispatch call. A script blocks Redis while it runs; 500 entries are a
    #: few milliseconds.
    max_entries: Constant[int] = 500
    #: Most bytes that one dispatch call takes up; one chunk of entries more may be in it. Relay
    #: messages carry 16 KiB at the most: replicas read what is larger.
    max_bytes: Constant[int] = 1_048_576
    max_entry_bytes: Annotated[
        int,
        Field(
            ge=256,
            le=64 * 1_048_576,
            description="Longest entry that viewers get as a whole; of a longer one they get "
            "type, status and what is small in it.",
        ),
    ] = 262_144
    #: Least time between two rounds of dispatch calls to one primary while two or more streams are
    #: written to in it: they go together. Saves a third of what an entry costs here and in Redis
    #: under load; 0 sends each at once.
    pace_s: Constant[float] = 0.0007
    #: Each watched stream is compared with Redis this often, in case a doorbell was lost. It is a
    #: safety net, so it may be slow.
    sweep_s: Constant[float] = 10.0
    #: After this many relays of other replicas in a row a replica stops racing for the stream and
    #: only listens.
    follow_after: Constant[int] = 3
    #: A listening replica arms its doorbell this often: it bounds the delay when the replica that
    #: dispatches dies.
    follow_arm_s: Constant[float] = 1.5
    #: A listening replica whose doorbell rings waits this long for the relay of another before it
    #: dispatches itself.
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
