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
    """What sets the number of replicas; there is one writer at any time."""

    INTERNAL = "internal"
    HPA = "hpa"
    KEDA = "keda"
    NONE = "none"


class Up(Part):
    """Scaling up. There is no window: pods are added immediately, in bounded steps."""

    tolerance_percent: Annotated[
        int,
        whole(0, 100, "How far the load may exceed the target of the pods before pods are added."),
    ] = 5
    max_pods: Annotated[
        int,
        whole(
            1,
            1_000,
            "Maximum number of pods added by a step; the larger of this and `maxPercent` applies.",
        ),
    ] = 4
    max_percent: Annotated[
        int, whole(0, 1_000, "The same, in percent of the pods at the period's start.")
    ] = 100
    period_s: Annotated[int, whole(1, 1_800, "Time in which at most one full step is made.")] = 30


class Down(Part):
    """Scaling down. It is slow, because the viewers of each removed pod must reconnect."""

    tolerance_percent: Annotated[
        int,
        whole(
            0,
            90,
            "Pods are removed only if the load is then at least this much below their target.",
        ),
    ] = 20
    max_pods: Annotated[
        int,
        whole(
            1,
            1_000,
            "Maximum number of pods removed by a step; the larger of this and "
            "`maxPercent` applies.",
        ),
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
            "Window over which the highest number of needed pods is used. After a start of the "
            "operator or missing figures, no pod is removed before the window has passed.",
        ),
    ] = 600
    after_up_s: Annotated[
        int, whole(0, 3_600, "No pod is removed for this long after one was added.")
    ] = 120


Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
DAYS: tuple[Day, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ClockTime = Annotated[str, Field(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(
            f"{name!r} is not a time zone; use an IANA name such as Europe/Berlin, or UTC"
        ) from None
    return name


class Window(Part):
    """A time window with other limits. If windows overlap, the higher limit applies."""

    days: Annotated[
        tuple[Day, ...],
        Field(
            min_length=1,
            max_length=7,
            description="Days on which the window opens.",
        ),
    ] = DAYS
    begin: Annotated[ClockTime, Field(description="Start of the window, `HH:MM` in `timeZone`.")]
    end: Annotated[
        ClockTime,
        Field(
            description="End of the window, `HH:MM`. If it is before `begin`, the window ends on "
            "the next day; if it equals `begin`, the window lasts a whole day."
        ),
    ]
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
            description="IANA time zone name; daylight saving time is observed.",
        ),
        AfterValidator(_known_zone),
    ] = "UTC"
    min: Annotated[
        int,
        whole(
            1,
            1_000,
            "Minimum number of pods in this window; pods are added immediately when it opens.",
        ),
    ]
    max: Annotated[
        int | None,
        whole(1, 1_000, "Maximum number of pods in this window, instead of `scaling.max`."),
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
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[-._a-zA-Z0-9]+$",
            description="Name of the metric.",
        ),
    ]
    labels: Annotated[
        dict[
            Annotated[str, Field(max_length=316)],
            Annotated[str, Field(max_length=63)],
        ],
        Field(default_factory=dict, max_length=16, description="Labels that select the series."),
    ]
    per_pod: Annotated[int, whole(1, 1_000_000_000, "Target per pod, for the sum over the series.")]


class Hpa(Part):
    """Metrics of the HorizontalPodAutoscaler of mode `hpa`; `up` and `down` apply to it too."""

    cpu_percent: Annotated[
        int | None,
        whole(
            1,
            400,
            "Target CPU usage in percent of the request; needs a metrics server. Idle viewers use "
            "memory but no CPU, so an external metric in addition is better.",
        ),
    ] = None
    external: Annotated[
        tuple[ExternalMetric, ...], Field(max_length=8, description="External metrics.")
    ] = ()


class Trigger(Part):
    """A KEDA trigger, passed on unchanged."""

    type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9-]+$",
            description="Type of the trigger, such as `prometheus`. Set its `ignoreNullValues` to "
            '`"false"`: otherwise a missing metric counts as no load.',
        ),
    ]
    metadata: Annotated[
        dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=4_096)]],
        Field(max_length=32, description="Parameters of the trigger."),
    ]
    authentication: Annotated[
        str | None,
        Field(min_length=1, max_length=253, description="Name of a TriggerAuthentication."),
    ] = None


class Keda(Part):
    """The ScaledObject of mode `keda`; `up` and `down` apply to it too."""

    polling_s: Annotated[int, whole(1, 3_600, "Polling interval of the triggers.")] = 15
    triggers: Annotated[tuple[Trigger, ...], Field(max_length=16, description="Triggers.")] = ()


class Scaling(Part):
    """Scaling of the pods."""

    mode: Annotated[
        Mode,
        Field(
            description="What sets the number of replicas. `internal`: the operator, based on the "
            "signals below. `hpa`, `keda`: an autoscaler that the operator creates and manages. "
            "`none`: `spec.replicas`.",
        ),
    ] = Mode.INTERNAL
    min: Annotated[int, whole(1, 1_000, "Minimum number of pods. With two, one may be lost.")] = 2
    max: Annotated[int, whole(1, 1_000, "Maximum number of pods.")] = 10
    connections_per_pod: Annotated[
        int,
        whole(
            1,
            1_000_000,
            "Target connections per pod: half of `replica.max_connections`, so that the other "
            "pods can take over those of a lost pod.",
        ),
    ] = 10_000
    deliveries_per_pod: Annotated[
        int | None, whole(1, 10_000_000, "Target frames per second per pod.")
    ] = None
    undispatched_per_pod: Annotated[
        int | None,
        whole(1, 10_000_000, "Target entries waiting for dispatch per pod, over all streams."),
    ] = None
    loop_lag_ms: Annotated[
        int,
        whole(
            0,
            10_000,
            "Event-loop lag at which a pod is considered full, regardless of the other signals. "
            "The median over the ready pods is used, and only after the last step has settled. 0: "
            "not used.",
        ),
    ] = 100
    up: Annotated[Up, Field(description="Scaling up.")] = Up()
    down: Annotated[Down, Field(description="Scaling down.")] = Down()
    schedule: Annotated[
        tuple[Window, ...],
        Field(max_length=32, description="Time windows with other limits."),
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
            "more: without a band between them the number of pods would oscillate",
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
