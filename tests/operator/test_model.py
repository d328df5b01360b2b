"""The Gateway resource as types; what the API server cannot know is refused here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.errors import InvalidInput
from tidegate_operator.model.gateway import read_spec
from tidegate_operator.model.scaling import Mode

TARGET = {"target": {"name": "gateway"}}


def test_a_target_is_all_that_is_needed() -> None:
    spec = read_spec(TARGET)
    assert spec.scaling.mode is Mode.INTERNAL
    assert (spec.scaling.min, spec.scaling.max) == (2, 10)
    assert spec.streams.prefix == "operation-progress:"


def test_an_unknown_time_zone_is_named() -> None:
    window = {"begin": "08:00", "end": "18:00", "min": 2, "timeZone": "Mars/Olympus"}
    with pytest.raises(InvalidInput) as caught:
        read_spec({**TARGET, "scaling": {"schedule": [window]}})
    assert caught.value.field == "spec.scaling.schedule[0].timeZone"
    assert "use an IANA name" in caught.value.reason


@pytest.mark.parametrize("zone", ["../../etc/passwd", "/etc/localtime", "Europe//Berlin", ".", ""])
def test_a_time_zone_is_no_path(zone: str) -> None:
    window = {"begin": "08:00", "end": "18:00", "min": 2, "timeZone": zone}
    with pytest.raises(InvalidInput):
        read_spec({**TARGET, "scaling": {"schedule": [window]}})


def test_all_problems_are_told_at_once() -> None:
    body = {"target": {}, "replicas": -1, "streams": {"pace": {"scanCount": 0}}}
    with pytest.raises(InvalidInput) as caught:
        read_spec(body)
    assert [line.partition(":")[0] for line in caught.value.reason.splitlines()] == [
        "spec.target.name",
        "spec.replicas",
        "spec.streams.pace.scanCount",
    ]


def test_what_a_newer_definition_has_is_passed_over_unless_a_person_wrote_it() -> None:
    body = {**TARGET, "scaling": {"telepathy": True}}
    assert read_spec(body) == read_spec(TARGET)
    with pytest.raises(InvalidInput, match="telepathy"):
        read_spec(body, strict=True)


@pytest.mark.parametrize("value", [True, "3", 3.0, None])
def test_only_a_number_is_a_number(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"spec\.replicas"):
        read_spec({**TARGET, "replicas": value})


def test_the_longest_prefix_wins() -> None:
    overrides = [
        {"prefix": "operation-progress:import:", "finishedS": 600},
        {"prefix": "operation-progress:import:big:", "finishedS": 60, "failedS": 0},
    ]
    streams = read_spec({**TARGET, "streams": {"overrides": overrides}}).streams
    assert streams.ttl_of("operation-progress:42").finished_s == 3_600
    assert streams.ttl_of("operation-progress:import:1").finished_s == 600
    big = streams.ttl_of("operation-progress:import:big:1")
    assert (big.finished_s, big.failed_s, big.idle_s) == (60, 0, 86_400)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)
_GROUPS = st.sampled_from(["target", "replicas", "scaling", "streams", "rebalance", "redis"])


@given(st.dictionaries(_GROUPS, _JSON))
def test_anything_else_is_refused_by_name(body: dict[str, object]) -> None:
    """Whatever the resource holds: a spec, or an error that says where."""
    said: InvalidInput | None = None
    try:
        read_spec(body)
    except InvalidInput as error:
        said = error
    assert said is None or (said.field.startswith("spec") and said.reason.startswith("spec"))
