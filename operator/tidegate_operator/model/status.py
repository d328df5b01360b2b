"""`status`: what the operator tells about a gateway. Only the operator writes it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tidegate_operator.model.parts import Part
from tidegate_operator.model.scaling import Mode


class ConditionType(StrEnum):
    """The conditions of a Gateway. All except ScalingLimited and MemoryPressure should be true."""

    READY = "Ready"
    REDIS_REACHABLE = "RedisReachable"
    ROLLOUT_HEALTHY = "RolloutHealthy"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    SWEEP_HEALTHY = "SweepHealthy"
    MEMORY_PRESSURE = "MemoryPressure"
    LEASES_AGREE = "LeasesAgree"
    DEFINITION_CURRENT = "DefinitionCurrent"
    LEADER_ELECTED = "LeaderElected"


#: Raised with every change of the schema. It is a default of the schema itself, so the API server
#: tells by it which one it serves.
SCHEMA_VERSION = 1


class Condition(Part):
    """One condition, as in `metav1.Condition`."""

    type: Annotated[str, Field(min_length=1, max_length=316, description="Type of the condition.")]
    status: Annotated[
        Literal["True", "False", "Unknown"], Field(description="Status of the condition.")
    ]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1_024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="Machine-readable reason.",
        ),
    ]
    message: Annotated[str, Field(max_length=32_768, description="Human-readable message.")]
    observed_generation: Annotated[
        int | None,
        Field(ge=0, description="The generation of the spec that the condition is based on."),
    ] = None
    last_transition_time: Annotated[
        datetime, Field(description="Time of the last change of `status`.")
    ]


class LastScale(Part):
    """The last change of the number of pods by the operator."""

    time: Annotated[datetime, Field(description="When.")]
    before: Annotated[int, Field(ge=0, description="Previous number of pods.")]
    after: Annotated[int, Field(ge=0, description="New number of pods.")]
    reason: Annotated[str, Field(max_length=64, description="Machine-readable reason.")]
    message: Annotated[str, Field(max_length=1_024, description="Reason with figures.")] = ""


class SweepCounts(Part):
    """Counts of a sweep; in a dry run, what it would have done."""

    streams: Annotated[int, Field(ge=0, description="Streams seen.")] = 0
    running: Annotated[int, Field(ge=0, description="Running streams.")] = 0
    finished: Annotated[int, Field(ge=0, description="Finished streams.")] = 0
    failed: Annotated[int, Field(ge=0, description="Failed streams.")] = 0
    idle: Annotated[int, Field(ge=0, description="Idle streams.")] = 0
    orphan: Annotated[int, Field(ge=0, description="Streams that never had viewers.")] = 0
    foreign: Annotated[
        int, Field(ge=0, description="Streams that others read, which are not changed.")
    ] = 0
    ttl_set: Annotated[int, Field(ge=0, description="Streams that were given a TTL.")] = 0
    ttl_removed: Annotated[
        int, Field(ge=0, description="Streams that run again, whose TTL was removed.")
    ] = 0
    trimmed: Annotated[int, Field(ge=0, description="Streams that were trimmed.")] = 0
    groups_removed: Annotated[int, Field(ge=0, description="Consumer groups removed.")] = 0
    consumers_removed: Annotated[
        int, Field(ge=0, description="Consumers of dead pods removed.")
    ] = 0
    slots_removed: Annotated[int, Field(ge=0, description="Slots of dead pods released.")] = 0
    errors: Annotated[int, Field(ge=0, description="Keys that could not be processed.")] = 0
    commands: Annotated[int, Field(ge=0, description="Commands sent to Redis.")] = 0


class LastSweep(Part):
    """The last completed sweep."""

    started_at: Annotated[datetime, Field(description="Start of the sweep.")]
    finished_at: Annotated[datetime, Field(description="End of the sweep.")]
    dry_run: Annotated[bool, Field(description="Whether it was a dry run.")] = False
    counts: Annotated[SweepCounts, Field(description="Counts of the sweep.")] = SweepCounts()


class MemoryStatus(Part):
    """Memory usage of the fullest primary."""

    used_bytes: Annotated[int, Field(ge=0, description="`used_memory`.")]
    limit_bytes: Annotated[
        int | None,
        Field(ge=0, description="`maxmemory`, or `streams.memory.limitBytes`; unset: unknown."),
    ] = None
    policy: Annotated[str, Field(max_length=64, description="`maxmemory-policy`.")] = ""


class GatewayStatus(Part):
    """The observed state of a gateway."""

    observed_generation: Annotated[
        int | None,
        Field(ge=0, description="The generation of the spec that the status is based on."),
    ] = None
    observed_at: Annotated[
        datetime | None,
        Field(
            description="When the figures were observed, by the clock of the operator. Written at "
            "least every `TIDEGATE_OPERATOR_STATUS_S`; an older time means that nobody has looked "
            "since."
        ),
    ] = None
    schema_version: Annotated[
        int | None,
        Field(
            ge=1,
            description="Version of the installed CustomResourceDefinition, filled in by "
            "the API server.",
        ),
    ] = SCHEMA_VERSION
    replicas: Annotated[
        int, Field(ge=0, description="Number of pods, without terminating ones.")
    ] = 0
    ready_replicas: Annotated[int, Field(ge=0, description="Number of ready pods.")] = 0
    desired_replicas: Annotated[int, Field(ge=0, description="Desired number of pods.")] = 0
    selector: Annotated[
        str, Field(max_length=4_096, description="Label selector of the pods, as a string.")
    ] = ""
    mode: Annotated[Mode | None, Field(description="What sets the number of replicas.")] = None
    connections: Annotated[
        int | None, Field(ge=0, description="Open connections over all pods; unset: unknown.")
    ] = None
    deliveries_per_s: Annotated[
        int | None, Field(ge=0, description="Frames sent per second; unset: unknown.")
    ] = None
    undispatched: Annotated[
        int | None, Field(ge=0, description="Entries waiting for dispatch; unset: unknown.")
    ] = None
    rebalancing: Annotated[bool, Field(description="Whether viewers are being rebalanced.")] = False
    last_scale: Annotated[LastScale | None, Field(description="The last change of replicas.")] = (
        None
    )
    last_sweep: Annotated[LastSweep | None, Field(description="The last sweep.")] = None
    memory: Annotated[MemoryStatus | None, Field(description="Memory usage of Redis.")] = None
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=16, description="Conditions of the gateway.")
    ] = ()
