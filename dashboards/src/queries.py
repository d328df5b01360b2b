"""PromQL from metric names. Only the strings are made here; which metrics there are is the table
in `tidegate.telemetry.metrics`.

Every selector carries the three variables of the boards. Each has `.*` for "All", which also
matches a series without the label: boards work on a Prometheus that scrapes by hand and knows no
namespaces, and sums simply have no such label then.
"""

from __future__ import annotations

from collections.abc import Sequence

#: What the variables of a board select.
SELECTED = 'namespace=~"$namespace",release=~"$release",pod=~"$pod"'
#: The operator is one per release, and its pods are not those of the gateway.
SELECTED_OPERATOR = 'namespace=~"$namespace",release=~"$release"'
#: One line per replica; without Kubernetes there is no pod, but an instance.
REPLICA = ("pod", "instance")
REPLICA_LEGEND = "{{pod}} {{instance}}"
WINDOW = "$__rate_interval"


def select(metric: str, *matchers: str, where: str = SELECTED) -> str:
    """The series of a metric that the variables, and these matchers, select."""
    return f"{metric}{{{','.join((where, *matchers))}}}"


def total(metric: str, *matchers: str, by: Sequence[str] = (), where: str = SELECTED) -> str:
    """The sum of a gauge over replicas."""
    return f"{_sum(by)}({select(metric, *matchers, where=where)})"


def highest(metric: str, *matchers: str, by: Sequence[str] = (), where: str = SELECTED) -> str:
    """The largest value of a gauge."""
    grouping = f" by ({', '.join(by)}) " if by else ""
    return f"max{grouping}({select(metric, *matchers, where=where)})"


def rate(counter: str, *matchers: str, by: Sequence[str] = (), where: str = SELECTED) -> str:
    """Increase per second of a counter, summed over replicas."""
    return f"{_sum(by)}(rate({select(counter, *matchers, where=where)}[{WINDOW}]))"


def increase(counter: str, *matchers: str, by: Sequence[str] = (), where: str = SELECTED) -> str:
    """How much a counter grew within the window, summed over replicas."""
    return f"{_sum(by)}(increase({select(counter, *matchers, where=where)}[{WINDOW}]))"


def quantile(
    q: float, histogram: str, *matchers: str, by: Sequence[str] = (), where: str = SELECTED
) -> str:
    """A quantile of what was observed within the window, over all selected replicas."""
    buckets = rate(f"{histogram}_bucket", *matchers, by=("le", *by), where=where)
    return f"histogram_quantile({q:g}, {buckets})"


def mean(histogram: str, *matchers: str, by: Sequence[str] = (), where: str = SELECTED) -> str:
    """The mean of what was observed within the window."""
    total_ = rate(f"{histogram}_sum", *matchers, by=by, where=where)
    return f"{total_} / {rate(f'{histogram}_count', *matchers, by=by, where=where)}"


def buckets(histogram: str, *matchers: str, where: str = SELECTED) -> str:
    """Observations per second by bucket, for a heat map."""
    return rate(f"{histogram}_bucket", *matchers, by=("le",), where=where)


def _sum(by: Sequence[str]) -> str:
    return f"sum by ({', '.join(by)}) " if by else "sum"
