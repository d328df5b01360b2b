"""Merges the responses of several workers on the admin port into one, as of a single process.

Each function takes the bodies of the workers that have responded, by the number of the worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric

from tidegate.core.histogram import Histogram
from tidegate.model.operation_order import OperationOrder

Body = dict[str, Any]
Bodies = Mapping[int, Body]

_PREFIX = "tidegate_"
_SUMMED = ("live", "lagging", "catching_up", "outbox_items")


def merged_readiness(bodies: Bodies, workers: int, *, has_been_complete: bool) -> Body:
    """`/readyz`: ready while at least one worker is; viewers that another worker refuses retry and
    reach it. Before all workers have been ready at once it is not: the first one to start would
    receive all viewers.
    """
    ready = [number for number, body in bodies.items() if body["ready"]]
    others = [
        f"worker {number}: {body['reason']}" for number, body in bodies.items() if not body["ready"]
    ]
    if len(ready) == workers:
        reason = "serving"
    elif bodies and not ready and len({body["reason"] for body in bodies.values()}) == 1:
        reason = str(next(iter(bodies.values()))["reason"])
    else:
        reason = "; ".join([f"{len(ready)} of {workers} workers are ready", *others])
    is_ready = bool(ready) and (has_been_complete or len(ready) == workers)
    return {"ready": is_ready, "reason": reason}


def merged_state(
    bodies: Bodies, pod: str, readiness: Body, metrics: Iterable[Metric], uptime_s: float
) -> Body:
    """`/debug/state`: the merged figures of the pod, and those of each worker."""
    first = next(iter(bodies.values()))
    return {
        "pod": pod,
        "version": first["version"],
        "uptime_s": round(uptime_s, 3),
        "readiness": readiness,
        "numbers": numbers_of(metrics),
        "workers": [{"worker": number, **body} for number, body in bodies.items()],
    }


def merged_operations(bodies: Bodies, order: OperationOrder, most: int) -> Body:
    """`/debug/operations`: at most `most`, in this order. `count` is a lower bound if a worker has
    omitted some.
    """
    rows: dict[str, Body] = {}
    for body in bodies.values():
        for row in body["operations"]:
            found = rows.get(row["operation"])
            if found is None:
                rows[row["operation"]] = dict(row)
                continue
            if _position(row["cursor"]) > _position(found["cursor"]):
                found |= {name: row[name] for name in ("status", "finished", "cursor")}
            found["entries"] = max(found["entries"], row["entries"])
            for name in _SUMMED:
                found[name] += row[name]
    count = max([len(rows), *(body["count"] for body in bodies.values())])
    key = _KEYS[order]
    first = sorted(rows.values(), key=lambda row: (-key(row), row["operation"]))[:most]
    return {"count": count, "omitted": count - len(first), "operations": first}


def merged_operation(bodies: Bodies) -> Body:
    """`/debug/operations/<id>`: the body of the worker with the highest cursor, with the viewers of
    all workers.
    """
    followed = [body for body in bodies.values() if body["followed"]]
    workers = [{"worker": number, **body} for number, body in bodies.items()]
    if not followed:
        return {**next(iter(bodies.values())), "workers": workers}
    furthest = max(followed, key=lambda body: _position(body["topic"]["cursor"]))
    viewers: Counter[str] = Counter()
    for body in followed:
        viewers.update(body["viewers"])
    outbox_items = sum(body["outbox_items"] for body in followed)
    return {
        **furthest,
        "viewers": {name: viewers[name] for name in furthest["viewers"]},
        "outbox_items": outbox_items,
        "workers": workers,
    }


def merged_tasks(bodies: Bodies, most: int) -> Body:
    """`/debug/tasks`: at most `most`, the oldest first, then those of unknown age."""
    names: Counter[str] = Counter()
    tasks: list[Body] = []
    for number, body in bodies.items():
        names.update(body["by_name"])
        tasks += [{"worker": number, **task} for task in body["tasks"]]
    tasks.sort(key=lambda task: -(task["age_s"] or 0.0))
    count = sum(body["count"] for body in bodies.values())
    return {
        "count": count,
        "by_name": dict(names.most_common()),
        "omitted": count - len(tasks[:most]),
        "tasks": tasks[:most],
    }


def numbers_of(metrics: Iterable[Metric]) -> Body:
    """The metrics of the gateway as `/debug/state` of one replica shows them (`numbers`)."""
    found: Body = {}
    for metric in metrics:
        if not metric.name.startswith(_PREFIX):
            continue
        if metric.type == "histogram":
            found[metric.name] = _histograms(metric)
            continue
        for sample in metric.samples:
            _put(found, sample.name, sample.labels, sample.value)
    return found


def _histograms(metric: Metric) -> Body:
    """The summary of a histogram, or one for each value of its label."""
    buckets: dict[str, dict[float, float]] = {}
    sums: dict[str, float] = {}
    for sample in metric.samples:
        label = next((value for name, value in sample.labels.items() if name != "le"), "")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(label, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_sum"):
            sums[label] = sample.value
    said = {label: _histogram(found, sums.get(label, 0.0)) for label, found in buckets.items()}
    return said[""] if list(said) == [""] else said


def _histogram(buckets: Mapping[float, float], total: float) -> Body:
    bounds = sorted(buckets)
    histogram = Histogram(bounds[:-1])
    before = 0.0
    for index, bound in enumerate(bounds):
        histogram.counts[index] = int(buckets[bound] - before)
        before = buckets[bound]
    histogram.sum = total
    return histogram.summary()


def _put(found: Body, name: str, labels: Mapping[str, str], value: float) -> None:
    if labels:
        found.setdefault(name, {})[next(iter(labels.values()))] = value
    else:
        found[name] = value


def _position(cursor: str) -> tuple[int, int]:
    ms, _, seq = cursor.partition("-")
    return int(ms), int(seq)


_KEYS: Mapping[OperationOrder, Callable[[Body], int]] = {
    OperationOrder.VIEWERS: lambda row: row["live"] + row["lagging"] + row["catching_up"],
    OperationOrder.LAGGING: lambda row: row["lagging"],
    OperationOrder.ENTRIES: lambda row: row["entries"],
}
