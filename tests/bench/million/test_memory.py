"""Memory by owner."""

from bench.million.memory import Memory


def test_memory_is_split_by_whose_it_is() -> None:
    before = Memory(servers=100, redis=10, clients=20, kernel=30, available=10_000)
    after = Memory(servers=400, redis=20, clients=40, kernel=430, available=9_000)

    split = after.since(before)

    assert (split.total, split.other) == (1_000, 270)
    assert split.per_viewer(10) == {
        "servers": 30,
        "redis": 1,
        "clients": 2,
        "kernel": 40,
        "total": 100,
        "other": 27,
    }
