"""How many viewers fit, and how many processes they need."""

import pytest

from bench.million.room import (
    RESERVE_BYTES,
    SPARE_FILES,
    VIEWER_BYTES,
    Limits,
    affordable,
    processes,
)

GIB = 2**30


def test_memory_is_never_taken_to_the_last() -> None:
    assert affordable(0, 10**6, 22 * GIB) == 20 * GIB // VIEWER_BYTES
    assert affordable(500, 1_000, 200 * GIB) == 1_000
    assert affordable(500, 1_000, RESERVE_BYTES) == 500
    assert affordable(500, 1_000, RESERVE_BYTES // 2) == 500


@pytest.mark.parametrize(
    ("viewers", "files", "expected"),
    [
        # As many processes as the limit of descriptors asks for, and one replica to spare.
        (10**6, 20_000, (54, 53, 10**6)),
        (10**6, 1_048_576, (4, 2, 10**6)),
        (2_000, 20_000, (4, 2, 2_000)),
        (10**6, SPARE_FILES + 10, (200, 200, 1_990)),
        (10**6, 100, (0, 0, 0)),
    ],
)
def test_as_many_processes_as_are_needed(
    viewers: int, files: int, expected: tuple[int, int, int]
) -> None:
    limits = Limits(32 * GIB, files, 10**7)

    found = processes(viewers, replicas=0, swarms=0, cores=2, limits=limits)

    assert (found.replicas, found.swarms, found.viewers) == expected
    assert bool(found.because) is (found.viewers < viewers)


def test_what_allows_no_more_is_said() -> None:
    few = processes(40_000, replicas=2, swarms=2, cores=2, limits=Limits(GIB, 20_000, 10**7))
    assert (few.viewers, few.because) == (
        19_000,
        "a process may have 20,000 descriptors (ulimit -n)",
    )
    machine = processes(40_000, replicas=0, swarms=0, cores=2, limits=Limits(GIB, 50_000, 40_000))
    assert machine.viewers == 17_000
    assert "fs.file-max" in machine.because
