"""The bench of the sweep, smaller: it makes what it says, and notices what is judged wrongly."""

from dataclasses import replace

import pytest
from rich.console import Console

from bench.stage import redis_binary
from bench.sweep import AGE_S, OF, play, state_of, table, wrong

STREAMS = 10 * OF


@pytest.mark.real("valkey9")
async def test_two_rounds_over_few_streams() -> None:
    quick = {"commandsPerS": 100_000, "changesPerS": 100_000}
    rounds, filled = await play(redis_binary(), STREAMS, quick, Console(quiet=True))
    assert wrong(rounds, STREAMS) == []
    first, later = rounds
    assert first.report["expiring"] == {"finished": 120, "failed": 10, "idle": 20, "orphan": 10}
    assert later.report["done"].get("groups", 0) == 0
    assert filled > STREAMS * 4_000
    assert 0 < first.redis_cpu_s < first.seconds
    assert first.rss_peak >= first.rss_begin > 0
    assert table(rounds, STREAMS, filled).row_count > 5

    forgotten = dict(first.report, streams=first.report["streams"] | {"finished": 119})
    assert wrong([replace(first, report=forgotten), later], STREAMS) == [
        "first round: finished: 119 of 120"
    ]
    again = dict(later.report, expiring=first.report["expiring"])
    assert wrong([first, replace(later, report=again)], STREAMS) == [
        "the next round set 160 TTLs again"
    ]


def test_every_state_is_there() -> None:
    assert {state_of(index) for index in range(OF)} == set(AGE_S)
