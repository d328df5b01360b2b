"""A viewer of the benchmark reconnects when a client would."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.million.comeback import after_close_s, after_refusal_s
from tidegate.client.watching import Return, Watching, delay_bound_s
from tidegate.model.close_codes import CLOSE_CODES


@given(
    code=st.sampled_from([*CLOSE_CODES, 1005, 4999]),
    failures=st.integers(0, 20),
    asked_ms=st.none() | st.integers(0, 10**7),
    seed=st.integers(0, 99),
)
def test_a_viewer_comes_back_as_a_client_does(
    code: int, failures: int, asked_ms: int | None, seed: int
) -> None:
    client = Watching("42", ["ws://a:1"], rng=random.Random(seed))
    client.received({"type": "current_state", "cursor": "0-0", "data": {}}, 0.0)
    for _ in range(failures):
        client.not_connected("refused")
    if asked_ms is not None:
        client.received({"type": "reconnect", "data": {"after_ms": asked_ms}}, 0.0)
    rng = random.Random(seed)
    for turn in range(failures):
        rng.uniform(0, delay_bound_s(turn))

    delay_s = after_close_s(code, failures=failures, asked_ms=asked_ms, uniform=rng.uniform)

    decision = client.closed(code)
    assert delay_s == (decision.delay_s if isinstance(decision, Return) else None)


@pytest.mark.parametrize("status", [None, 400, 404, 408, 429, 500, 503])
def test_a_refused_viewer_comes_back_as_a_client_does(status: int | None) -> None:
    client = Watching("42", ["ws://a:1"], rng=random.Random(5))

    delay_s = after_refusal_s(
        status, failures=0, retry_after_s=2.0, uniform=random.Random(5).uniform
    )

    decision = client.not_connected("why", status=status, retry_after_s=2.0)
    assert delay_s == (decision.delay_s if isinstance(decision, Return) else None)
