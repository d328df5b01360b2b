"""The result of a run: what was measured and where, every round's figures, and the summary.

The JSON file holds all of it, raw, so that another summary can be made later. `FORMAT` rises when
a reader of older files would misread.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import machine
from bench.child import REPOSITORY
from bench.errors import NotPossible
from bench.measures import Round
from bench.scenarios import Scenario
from bench.stats import Spread, ratio, spread

FORMAT: Final = 1
FOLDER: Final = REPOSITORY / "bench" / "results"


@dataclass(slots=True)
class Outcome:
    """All rounds of one scenario, by subject, in the order they were played."""

    scenario: Scenario
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    def values(self, subject: str, metric: str) -> list[float]:
        """The rounds that have this figure; a failed round has none."""
        rounds = self.rounds.get(subject, ())
        return [one.figures[metric] for one in rounds if metric in one.figures]

    def spread(self, subject: str, metric: str) -> Spread | None:
        values = self.values(subject, metric)
        return spread(values) if values else None

    def ratio(self, metric: str, ours: str, theirs: str) -> float | None:
        """Median of `ours` over median of `theirs`."""
        a, b = self.spread(ours, metric), self.spread(theirs, metric)
        return ratio(a.median, b.median) if a and b else None

    def ratios(self, metric: str, ours: str, theirs: str) -> Spread | None:
        """`ours` over `theirs` in the same round, over the rounds in which both have it."""
        pairs = zip(self.rounds.get(ours, ()), self.rounds.get(theirs, ()), strict=False)
        found = [
            one.figures[metric] / other.figures[metric]
            for one, other in pairs
            if metric in one.figures and other.figures.get(metric)
        ]
        return spread(found) if found else None

    def problems(self, subject: str) -> list[str]:
        """Every problem once, in words, with the rounds it was seen in."""
        seen: dict[str, list[int]] = {}
        for number, one in enumerate(self.rounds.get(subject, ()), start=1):
            for problem in one.problems:
                seen.setdefault(problem, []).append(number)
        return [
            f"round {', '.join(map(str, numbers))}: {problem}" for problem, numbers in seen.items()
        ]


def document(outcomes: Sequence[Outcome], about: dict[str, Any]) -> dict[str, Any]:
    """The whole run as JSON-able data."""
    return {"format": FORMAT, **about, "scenarios": [_scenario(outcome) for outcome in outcomes]}


def _scenario(outcome: Outcome) -> dict[str, Any]:
    scenario = outcome.scenario
    subjects: dict[str, Any] = {}
    for subject, rounds in outcome.rounds.items():
        metrics = sorted({metric for one in rounds for metric in one.figures})
        summary = {metric: asdict(spread(outcome.values(subject, metric))) for metric in metrics}
        subjects[subject] = {"summary": summary, "rounds": [asdict(one) for one in rounds]}
    return {
        "name": scenario.name,
        "title": scenario.title,
        "operations": scenario.operations,
        "viewers_each": scenario.viewers_each,
        "entries_per_s": scenario.per_second,
        "replicas": scenario.replicas,
        "history": scenario.history,
        "rows": [
            {
                "metric": row.metric,
                "label": row.label,
                "unit": row.unit,
                "better": row.better.value,
                "centrifugo": row.centrifugo,
                "reach": row.reach,
            }
            for row in scenario.rows
        ],
        "subjects": subjects,
    }


def about(redis_server: str) -> dict[str, Any]:
    """When, where and with what: the beginning of each document."""
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.machine(),
        "versions": machine.versions(redis_server),
    }


def path_of(name: str) -> Path:
    """A plain name lives in bench/results; anything with a slash or a suffix is a path."""
    if "/" in name or name.endswith(".json"):
        return Path(name)
    return FOLDER / f"{name}.json"


def save(name: str, data: dict[str, Any]) -> Path:
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """Raises `NotPossible` when it cannot be read or is not a result of ours."""
    path = path_of(name)
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NotPossible(f"cannot read the result {path}: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise NotPossible(f"{path} is not a result of this bench (format {FORMAT})")
    return data
