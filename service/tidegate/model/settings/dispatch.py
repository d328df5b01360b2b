"""When a replica reads what is new in a stream, and how much at once."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group


class DispatchSettings(Group):
    """How entries are taken from a stream and relayed to all replicas."""

    group_name = "dispatch"

    max_entries: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Most entries of one dispatch call. A script blocks Redis while it "
            "runs; 500 entries are a few milliseconds.",
        ),
    ] = 500
    max_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="Most bytes that one dispatch call takes up; one chunk of entries more may "
            "be in it. Relay messages carry 16 KiB at the most: replicas read what is larger.",
        ),
    ] = 1_048_576
    max_entry_bytes: Annotated[
        int,
        Field(
            ge=256,
            le=64 * 1_048_576,
            description="Longest entry that viewers get as a whole; of a longer one they get "
            "type, status and what is small in it.",
        ),
    ] = 262_144
    pace_s: Annotated[
        float,
        Field(
            ge=0,
            le=0.1,
            description="Least time between two rounds of dispatch calls to one primary while two "
            "or more streams are written to in it: they go together. Saves a third of what an "
            "entry costs here and in Redis under load; 0 sends each at once.",
        ),
    ] = 0.0007
    sweep_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Each watched stream is compared with Redis this often, in case a "
            "doorbell was lost. It is a safety net, so it may be slow.",
        ),
    ] = 10.0
    follow_after: Annotated[
        int,
        Field(
            ge=1,
            le=1_000,
            description="After this many relays of other replicas in a row a replica stops "
            "racing for the stream and only listens.",
        ),
    ] = 3
    follow_arm_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=60,
            description="A listening replica arms its doorbell this often: it bounds the delay "
            "when the replica that dispatches dies.",
        ),
    ] = 1.5
    follow_grace_s: Annotated[
        float,
        Field(
            ge=0,
            le=60,
            description="A listening replica whose doorbell rings waits this long for the "
            "relay of another before it dispatches itself.",
        ),
    ] = 0.25

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("max_entry_bytes", "<=", "max_bytes")
        self._require("follow_grace_s", "<=", "follow_arm_s")
        self._require("follow_arm_s", "<=", "sweep_s")
        return self
