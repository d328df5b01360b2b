"""Names of workers, and what each has of a total."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.core.slots import pod_of
from tidegate.core.workers import pod_of_replica, share, worker_name
from tidegate.model.settings import ServerSettings


def test_a_worker_s_name_tells_its_pod() -> None:
    name = worker_name("gate-0.east", 2)
    assert name == "gate-0.east/2"
    assert pod_of_replica(name) == pod_of_replica("gate-0.east") == "gate-0.east"
    assert pod_of(f"{name}.1795969870841.8ff77c268aad") == name


def test_no_pod_has_the_name_of_a_worker() -> None:
    with pytest.raises(ValidationError):
        ServerSettings(pod=worker_name("gate", 1))


@given(total=st.integers(0, 10_000), workers=st.integers(1, 64))
def test_shares_are_even_and_add_up(total: int, workers: int) -> None:
    shares = [share(total, number, workers) for number in range(1, workers + 1)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
