"""Plays a whole run: every scenario, every round, every subject, in turns.

Subjects take turns within a round and swap places in the next, so that a drift of the machine hits
both. A round that fails is kept as a round with a problem and without figures: what breaks is a
result too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.measures import Bed, Round, play
from bench.results import Outcome
from bench.scenarios import Scenario
from bench.subjects import Subject


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run consists of."""

    scenarios: Sequence[Scenario]
    subjects: Sequence[Subject]
    rounds: int
    bed: Bed

    @property
    def steps(self) -> int:
        return sum(len(self.able(scenario)) for scenario in self.scenarios) * self.rounds

    def able(self, scenario: Scenario) -> tuple[Subject, ...]:
        """Those that have this way in, and users where there are some."""
        return tuple(
            subject
            for subject in self.subjects
            if scenario.way in subject.ways
            and scenario.kind in subject.kinds
            and (subject.signs_in or not (scenario.connections_per_user or scenario.attack))
        )


async def run(
    plan: Plan,
    *,
    on_step: Callable[[Scenario, Subject, int], None],
    on_scenario: Callable[[Outcome], None],
    into: list[Outcome],
) -> None:
    """Play `plan`; outcomes go into `into` as they come, so that an interrupted run has them."""
    for scenario in plan.scenarios:
        subjects = plan.able(scenario)
        if not subjects:
            continue
        outcome = Outcome(scenario, {subject.name: [] for subject in subjects})
        into.append(outcome)
        for number in range(1, plan.rounds + 1):
            turns = subjects if number % 2 else tuple(reversed(subjects))
            for subject in turns:
                on_step(scenario, subject, number)
                outcome.rounds[subject.name].append(await _play(scenario, subject, plan.bed))
        on_scenario(outcome)


async def _play(scenario: Scenario, subject: Subject, bed: Bed) -> Round:
    try:
        return await play(scenario, subject, bed)
    except (BenchError, ProcessLookupError) as error:
        return Round(problems=[f"FAILED: {error}"])
