"""The table of browser clients: medians, extremes, and ratios to the first of them."""

from bench.clients.rounds import Round
from bench.clients.table import Client, markdown


def found(cpu_ms: float, *, lost: int = 0) -> Round:
    return Round(
        first_ms=100.0,
        cpu_ms=cpu_ms,
        script_ms=10.0,
        back_ms=[300.0, 100.0, 200.0],
        lost=lost,
        again=0,
        late_p99_ms=1.0,
    )


def test_others_are_compared_with_the_first_by_medians() -> None:
    ours = Client("ours", "1.0", 6_000, [found(20.0), found(10.0), found(60.0)])
    theirs = Client("theirs", "2.0", 18_000, [found(30.0), found(30.0), found(50.0, lost=7)])

    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown([ours, theirs]).splitlines()
    ]

    assert rows[0] == ["", "ours 1.0", "theirs 2.0"]
    assert ["size, gzipped, bytes", "6,000", "18,000, 3.0x"] in rows
    cpu = "CPU of the page per 1,000 updates, ms"
    assert [cpu, "20 (10 to 60)", "30 (30 to 50), 1.5x"] in rows
    assert ["updates again after a kill, ms", "200", "200"] in rows
    # Where ours is 0 a ratio says nothing.
    assert ["updates lost in the kills of a round", "0", "0 (0 to 7)"] in rows
