"""The figures of all swarms together."""

from bench.million.site import Tally


def test_tallies_add_up() -> None:
    one = {
        "states": {"open": 3, "away": 1},
        "at": {"0": 2, "1": 1},
        "delivered": 5,
        "missed": 0,
        "repeated": 1,
        "returned": 2,
        "last_ns": 7,
        "back_ns": 9,
        "happened": {"close 1012": 1},
    }

    total = Tally.of([one, one | {"last_ns": 8}])

    assert (total.open, total.states["away"], total.at[0]) == (6, 2, 4)
    assert (total.counts["delivered"], total.counts["repeated"]) == (10, 2)
    assert (total.last_ns, total.back_ns) == (8, 9)
    assert total.happened == {"close 1012": 2}
