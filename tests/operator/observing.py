"""Observations and specs for tests of decisions: short ways to say what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate_operator.decide.records import Observation, Pod, PodLoad
from tidegate_operator.model.gateway import GatewaySpec, read_spec

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def spec(replicas: int = 1, rebalance: dict[str, Any] | None = None, **scaling: Any) -> GatewaySpec:
    """A spec with these fields of `scaling`, in YAML's names; 1,000 connections per pod."""
    body = {
        "target": {"name": "gateway"},
        "replicas": replicas,
        "scaling": {"connectionsPerPod": 1_000, "max": 50, **scaling},
        "rebalance": {"enabled": False} if rebalance is None else rebalance,
    }
    return read_spec(body, strict=True)


def pods(*connections: int | None, lag_ms: float = 1.0) -> tuple[Pod, ...]:
    """Ready pods with so many connections each; None: without a lease."""
    return tuple(
        Pod(f"pod-{n}", figures=None if one is None else PodLoad(one, 0.0, lag_ms))
        for n, one in enumerate(connections)
    )


def even(load: int, count: int, *, lag_ms: float = 1.0) -> tuple[Pod, ...]:
    """So many pods that share a load."""
    shares = [load // count + (n < load % count) for n in range(count)]
    return pods(*shares, lag_ms=lag_ms)


def seen(
    at_s: float, those: Sequence[Pod], *, replicas: int | None = None, **more: Any
) -> Observation:
    """What is seen at a time; as many replicas as there are pods that stay."""
    staying = sum(not pod.terminating for pod in those)
    return Observation(
        at_s=at_s,
        wall=MONDAY + timedelta(seconds=at_s),
        replicas=staying if replicas is None else replicas,
        pods=tuple(those),
        **more,
    )
