"""Each target over its seeds and what Hypothesis makes of them; without Atheris."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.harness.examples import examples


@pytest.mark.parametrize("name", TARGETS)
def test_its_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_seeds_cut_and_joined(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    parts = data.draw(st.lists(st.sampled_from(target.seeds) | st.binary(max_size=40), max_size=4))
    whole = b"".join(parts)
    start = data.draw(st.integers(0, len(whole)))
    target.run(whole[:start] + data.draw(st.binary(max_size=3)) + whole[start + 1 :])
