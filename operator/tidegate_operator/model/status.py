"""`status`: what the operator tells about a gateway. Only the operator writes it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tidegate_operator.model.parts import Part
from tidegate_operator.model.scaling import Mode


class ConditionType(StrEnum):
    """The conditions of a Gateway. All but ScalingLimited and MemoryPressure are good when true."""

    READY = "Ready"
    REDIS_REACHABLE = "RedisReachable"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    SWEEP_HEALTHY = "SweepHealthy"
    MEMORY_PRESSURE = "MemoryPressure"
    LEASES_AGREE = "LeasesAgree"
    DEFINITION_CURRENT = "DefinitionCurrent"


#: Raised with every change of the schema. It is a default of the schema itself, so the API server
#: tells by it which one it serves.
SCHEMA_VERSION = 1


class Condition(Part):
    """One condition, as in `metav1.Condition`."""

    type: Annotated[str, Field(min_length=1, max_length=316, description="Which one.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1_024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="One word for programs.",
        ),
    ]
    message: Annotated[str, Field(max_length=32_768, description="A sentence for people.")]
    observed_generation: Annotated[
        int | None, Field(ge=0, description="The generation of the spec that it speaks of.")
    ] = None
    last_transition_time: Annotated[datetime, Field(description="When `status` last changed.")]


class LastScale(Part):
    """The last change of the number of pods that the operator made."""

    time: Annotated[datetime, Field(description="When.")]
    before: Annotated[int, Field(ge=0, description="Pods before.")]
    after: Annotated[int, Field(ge=0, description="Pods wanted since then.")]
    reason: Annotated[str, Field(max_length=64, description="Why, in one word.")]
    message: Annotated[str, Field(max_length=1_024, description="Why, with figures.")] = ""


class SweepCounts(Part):
    """What one sweep saw and did; in a dry run, what it would have done."""

    streams: Annotated[int, Field(ge=0, description="Streams seen.")] = 0
    running: Annotated[int, Field(ge=0, description="Of those: running.")] = 0
    finished: Annotated[int, Field(ge=0, description="Of those: finished.")] = 0
    failed: Annotated[int, Field(ge=0, description="Of those: failed.")] = 0
    idle: Annotated[int, Field(ge=0, description="Of those: idle.")] = 0
    orphan: Annotated[int, Field(ge=0, description="Of those: never watched.")] = 0
    foreign: Annotated[
        int, Field(ge=0, description="Of those: somebody else's, so left alone.")
    ] = 0
    ttl_set: Annotated[int, Field(ge=0, description="Streams that were given a TTL.")] = 0
    ttl_removed: Annotated[
        int, Field(ge=0, description="Streams that run again and lost their TTL.")
    ] = 0
    trimmed: Annotated[int, Field(ge=0, description="Streams that were trimmed.")] = 0
    groups_removed: Annotated[int, Field(ge=0, description="Consumer groups removed.")] = 0
    consumers_removed: Annotated[int, Field(ge=0, description="Consumers of dead pods.")] = 0
    slots_removed: Annotated[int, Field(ge=0, description="Slots of dead pods.")] = 0
    errors: Annotated[int, Field(ge=0, description="Keys that could not be handled.")] = 0
    commands: Annotated[int, Field(ge=0, description="Commands sent to Redis.")] = 0


class LastSweep(Part):
    """The last sweep that came to its end."""

    started_at: Annotated[datetime, Field(description="When it began.")]
    finished_at: Annotated[datetime, Field(description="When it ended.")]
    dry_run: Annotated[bool, Field(description="Whether it only counted.")] = False
    counts: Annotated[SweepCounts, Field(description="What it saw and did.")] = SweepCounts()


class MemoryStatus(Part):
    """How full Redis is: the fullest primary."""

    used_bytes: Annotated[int, Field(ge=0, description="`used_memory`.")]
    limit_bytes: Annotated[
        int | None,
        Field(ge=0, description="`maxmemory`, or `streams.memory.limitBytes`; unset: unknown."),
    ] = None
    policy: Annotated[str, Field(max_length=64, description="`maxmemory-policy`.")] = ""


class GatewayStatus(Part):
    """What the operator tells."""

    observed_generation: Annotated[
        int | None, Field(ge=0, description="The generation of the spec that was acted on.")
    ] = None
    schema_version: Annotated[
        int | None,
        Field(ge=1, description="Of the served definition: the API server fills it in."),
    ] = SCHEMA_VERSION
    replicas: Annotated[int, Field(ge=0, description="Pods there are, without leaving ones.")] = 0
    ready_replicas: Annotated[int, Field(ge=0, description="Of those, ready ones.")] = 0
    desired_replicas: Annotated[int, Field(ge=0, description="Pods there should be now.")] = 0
    selector: Annotated[
        str, Field(max_length=4_096, description="Label selector of the pods, as text.")
    ] = ""
    mode: Annotated[Mode | None, Field(description="Who writes the number of replicas.")] = None
    connections: Annotated[
        int | None, Field(ge=0, description="Open connections over all pods; unset: unknown.")
    ] = None
    deliveries_per_s: Annotated[
        int | None, Field(ge=0, description="Frames sent per second; unset: unknown.")
    ] = None
    undispatched: Annotated[
        int | None, Field(ge=0, description="Entries that wait for dispatch; unset: unknown.")
    ] = None
    rebalancing: Annotated[bool, Field(description="Whether viewers are being evened out.")] = False
    last_scale: Annotated[LastScale | None, Field(description="The last change of replicas.")] = (
        None
    )
    last_sweep: Annotated[LastSweep | None, Field(description="The last sweep.")] = None
    memory: Annotated[MemoryStatus | None, Field(description="How full Redis is.")] = None
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=16, description="What is well, and what is not.")
    ] = ()
