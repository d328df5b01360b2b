"""Asks a Prometheus what a board or a rule would, and says why the answer would show nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.dashboards.board_files import Asked, queries
from tests.dashboards.rules_files import rules
from tests.servers.prometheus import Prometheus, QueryFailed

INTERVALS = {"__rate_interval": "10s", "__range": "5m"}
#: How a board is looked at: the values of its variables.
WAYS: Mapping[str, Mapping[str, str]] = {
    "kubernetes": {"namespace": "shop", "release": "tidegate", "pod": ".*-[0-9]"},
    # "All" is `.*`; the empty pattern takes only what has no label, which proves more.
    "by hand": {"namespace": "", "release": "", "pod": ""},
}
#: The labels that `kubernetes` asks for; the pod's name comes with each target.
KUBERNETES = {"namespace": "shop", "release": "tidegate"}
_NAME = re.compile(r"\b(?:release:)?tidegate_[a-z0-9_]+(?::ratio_rate\w+)?\b|\bprocess_[a-z_]+\b")


@dataclass(frozen=True, slots=True)
class Scraped:
    """What was scraped between two moments (seconds since the epoch), and by whom."""

    prometheus: Prometheus
    start_s: float
    end_s: float
    #: What one target exposed near the end.
    exposed: str
    #: The traces of which the collector has heard that a viewer was served.
    delivered: frozenset[str] = frozenset()

    async def emptiness(self, asked: Asked, values: Mapping[str, str]) -> str | None:
        """Why a panel would be empty: an error, no series, or never a number."""
        expr = filled(asked.expr, values)
        try:
            found = await self.prometheus.query_range(expr, self.start_s, self.end_s)
        except QueryFailed as error:
            return f"{asked.where}: {error}"
        numbers = [float(value) for series in found for _, value in series["values"]]
        if not any(math.isfinite(number) for number in numbers):
            return f"{asked.where}: {'never a number' if numbers else 'no series'}: {expr}"
        return None

    async def empty(self, every: Iterable[Asked], values: Mapping[str, str]) -> list[str]:
        """Those that would show nothing."""
        found = [await self.emptiness(asked, values) for asked in every]
        return [why for why in found if why is not None]

    async def moved(self, metric: str) -> bool:
        """Whether any of its series was ever above 0."""
        found = await self.prometheus.query_range(f"max({metric})", self.start_s, self.end_s)
        return any(float(value) > 0 for series in found for _, value in series["values"])


def filled(expr: str, values: Mapping[str, str]) -> str:
    """The query with its variables filled in."""
    for name, value in {**INTERVALS, **values}.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, expr
    return expr


def names(expr: str) -> set[str]:
    """The metrics that a query is about: ours, and those of processes."""
    return set(_NAME.findall(expr))


def used() -> set[str]:
    """The metrics of all boards and rules, histograms without the ends of their series."""
    exprs = [asked.expr for asked in queries()] + [rule["expr"] for rule in rules()]
    found: set[str] = set().union(*(names(expr) for expr in exprs))
    return found | {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
