"""`spec.scaling`: who decides how many pods there are, by what, and how fast.

The fields that steer a step have the meaning that they have in an HorizontalPodAutoscaler, so that
mode `hpa` can be given the same behaviour. The algorithm is in `decide/scaling.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from tidegate_operator.model.parts import Part, Rule, whole


class Mode(StrEnum):
    """Who writes the number of replicas; there is one writer at any time."""

    INTERNAL = "internal"
    HPA = "hpa"
    KEDA = "keda"
    NONE = "none"


class Up(Part):
    """How fast pods are added. There is no window: need is met at once, in bounded steps."""

    tolerance_percent: Annotated[
        int, whole(0, 100, "Load may exceed the pods' target by so much before one is added.")
    ] = 5
    max_pods: Annotated[
        int, whole(1, 1_000, "Pods that a step may add; the larger of this and `maxPercent`.")
    ] = 4
    max_percent: Annotated[
        int, whole(0, 1_000, "The same, in percent of the pods at the period's start.")
    ] = 100
    period_s: Annotated[int, whole(1, 1_800, "Time in which at most one full step is made.")] = 30


class Down(Part):
    """How slowly pods are taken away: each one makes its viewers connect again."""

    tolerance_percent: Annotated[
        int,
        whole(
            0, 90, "After a step the pods' load must be this much below their target, or it waits."
        ),
    ] = 20
    max_pods: Annotated[
        int, whole(1, 1_000, "Pods that a step may take; the larger of this and `maxPercent`.")
    ] = 1
    max_percent: Annotated[
        int, whole(0, 100, "The same, in percent of the pods at the period's start.")
    ] = 10
    period_s: Annotated[int, whole(1, 1_800, "Time in which at most one full step is made.")] = 60
    window_s: Annotated[
        int,
        whole(
            0,
            3_600,
            "The highest need of this time counts. After a start of the operator, or figures that "
            "were missing, nothing is taken away before it has passed.",
        ),
    ] = 600
    after_up_s: Annotated[
        int, whole(0, 3_600, "Nothing is taken away for so long after a pod was added.")
    ] = 120


Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
DAYS: tuple[Day, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ClockTime = Annotated[str, Field(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(
            f"{name!r} is no time zone; give an IANA name such as Europe/Berlin, or UTC"
        ) from None
    return name


class Window(Part):
    """A part of the week with other bounds. Where windows overlap the higher bound holds."""

    days: Annotated[
        tuple[Day, ...],
        Field(
            min_length=1,
            max_length=7,
            description="Days on which it begins.",
        ),
    ] = DAYS
    begin: Annotated[ClockTime, Field(description="When it begins, `HH:MM` in `timeZone`.")]
    end: Annotated[
        ClockTime,
        Field(
            description="When it ends, `HH:MM`. Not after `begin`: it ends on the day after; "
            "the same as `begin`: a whole day."
        ),
    ]
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
            description="IANA name; summer time is followed.",
        ),
        AfterValidator(_known_zone),
    ] = "UTC"
    min: Annotated[int, whole(1, 1_000, "Least pods in this time; up at once when it begins.")]
    max: Annotated[
        int | None,
        whole(1, 1_000, "Most pods in this time, in place of `scaling.max`."),
    ] = None

    rules = (
        Rule(
            "!has(self.max) || self.min <= self.max",
            "min must be at most max",
            ".min",
            lambda part: part.max is None or part.min <= part.max,
        ),
    )


class ExternalMetric(Part):
    """A metric of the external.metrics.k8s.io API."""

    metric: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Its name."),
    ]
    labels: Annotated[
        dict[
            Annotated[str, Field(max_length=316)],
            Annotated[str, Field(max_length=63)],
        ],
        Field(default_factory=dict, max_length=16, description="Labels that select its series."),
    ]
    per_pod: Annotated[int, whole(1, 1_000_000_000, "The sum over the series that a pod carries.")]


class Hpa(Part):
    """What the HorizontalPodAutoscaler of mode `hpa` goes by; `up` and `down` hold for it too."""

    cpu_percent: Annotated[
        int | None,
        whole(
            1,
            400,
            "CPU use in percent of the request; needs a metrics server. Idle viewers cost memory "
            "and no CPU: better with an external metric beside it.",
        ),
    ] = None
    external: Annotated[
        tuple[ExternalMetric, ...], Field(max_length=8, description="External metrics.")
    ] = ()


class Trigger(Part):
    """A KEDA trigger, handed over as it is."""

    type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9-]+$",
            description='Such as `prometheus`. Set its `ignoreNullValues` to `"false"`: else a '
            "lost metric reads as no load.",
        ),
    ]
    metadata: Annotated[
        dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=4_096)]],
        Field(max_length=32, description="Its parameters."),
    ]
    authentication: Annotated[
        str | None,
        Field(min_length=1, max_length=253, description="Name of a TriggerAuthentication."),
    ] = None


class Keda(Part):
    """What the ScaledObject of mode `keda` is made of; it takes `up` and `down` from here."""

    polling_s: Annotated[int, whole(1, 3_600, "How often KEDA asks the triggers.")] = 15
    triggers: Annotated[tuple[Trigger, ...], Field(max_length=16, description="Triggers.")] = ()


class Scaling(Part):
    """How many pods there are."""

    mode: Annotated[
        Mode,
        Field(
            description="Who writes the number of replicas. `internal`: the operator, by the "
            "signals below. `hpa`, `keda`: an autoscaler that the operator makes and keeps. "
            "`none`: it is `spec.replicas`.",
        ),
    ] = Mode.INTERNAL
    min: Annotated[int, whole(1, 1_000, "Least pods. Two survive the loss of one.")] = 2
    max: Annotated[int, whole(1, 1_000, "Most pods.")] = 10
    connections_per_pod: Annotated[
        int,
        whole(
            1,
            1_000_000,
            "Connections that a pod is meant to carry: half of `replica.max_connections`, so that "
            "the others can take what a lost pod carried.",
        ),
    ] = 10_000
    deliveries_per_pod: Annotated[
        int | None, whole(1, 10_000_000, "Frames per second that a pod is meant to send.")
    ] = None
    undispatched_per_pod: Annotated[
        int | None,
        whole(1, 10_000_000, "Entries waiting for dispatch, over all streams, for each pod."),
    ] = None
    loop_lag_ms: Annotated[
        int,
        whole(
            0,
            10_000,
            "Event-loop lag at which a pod counts as full, whatever the other signals say. The "
            "median over the ready pods is looked at, and only after the last step has settled. "
            "0: not looked at.",
        ),
    ] = 100
    up: Annotated[Up, Field(description="How fast pods are added.")] = Up()
    down: Annotated[Down, Field(description="How slowly pods are taken away.")] = Down()
    schedule: Annotated[
        tuple[Window, ...],
        Field(max_length=32, description="Parts of the week with other bounds."),
    ] = ()
    hpa: Annotated[Hpa, Field(description="Mode `hpa` only.")] = Hpa()
    keda: Annotated[Keda, Field(description="Mode `keda` only.")] = Keda()

    rules = (
        Rule(
            "self.min <= self.max",
            "scaling.min must be at most scaling.max",
            ".min",
            lambda part: part.min <= part.max,
        ),
        Rule(
            "self.schedule.all(w, w.min <= (has(w.max) ? w.max : self.max))",
            "scaling.schedule: min of a window without a max must be at most scaling.max",
            ".schedule",
            lambda part: all(w.min <= (w.max or part.max) for w in part.schedule),
        ),
        Rule(
            "self.up.tolerancePercent + self.down.tolerancePercent >= 5",
            "scaling.up.tolerancePercent and scaling.down.tolerancePercent must add up to 5 or "
            "more: without a band between them the number of pods would swing",
            ".down",
            lambda part: part.up.tolerance_percent + part.down.tolerance_percent >= 5,
        ),
        Rule(
            "self.mode != 'hpa' || has(self.hpa.cpuPercent) || self.hpa.external.size() > 0",
            "scaling.hpa needs cpuPercent or an external metric in mode hpa",
            ".hpa",
            lambda part: (
                part.mode is not Mode.HPA
                or part.hpa.cpu_percent is not None
                or len(part.hpa.external) > 0
            ),
        ),
        Rule(
            "self.mode != 'keda' || self.keda.triggers.size() > 0",
            "scaling.keda needs a trigger in mode keda",
            ".keda",
            lambda part: part.mode is not Mode.KEDA or len(part.keda.triggers) > 0,
        ),
    )
