"""What `progress` takes, and what it says of the rest."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tidegate.client.updates import progress_data
from tidegate.model.errors import InvalidInput


@pytest.mark.parametrize(
    ("given", "data", "progress"),
    [
        (0, {}, 0.0),
        (0.5, {"message": "half"}, 0.5),
        (1, {}, 1.0),
        (1.0000001, {}, 1.0),
        (-1e-9, {}, 0.0),
        (Decimal("0.25"), {}, 0.25),
        (Fraction(1, 4), {}, 0.25),
        (None, {"current": 3, "total": 4}, 0.75),
        (None, {"current": 5, "total": 4}, 1.0),
        (None, {"current": -1, "total": 4}, 0.0),
        (0.9, {"current": 3, "total": 4}, 0.9),
    ],
)
def test_a_fraction_or_a_count(given: Any, data: dict[str, Any], progress: float) -> None:
    assert progress_data(given, data) == {"progress": progress, **data}


@pytest.mark.parametrize(
    ("given", "data", "said"),
    [
        (50, {}, "progress: must be from 0 to 1, not 50; .* pass current=50, total=100"),
        (1.5, {}, "progress: must be from 0 to 1, not 1.5"),
        (-0.1, {}, "progress: must be from 0 to 1, not -0.1"),
        (1e300, {}, "progress: must be from 0 to 1"),
        (10**400, {}, "progress: must be a number from 0 to 1, not 1000"),
        (float("nan"), {}, "progress: must be a number from 0 to 1, not nan"),
        (float("inf"), {}, "progress: must be a number from 0 to 1, not inf"),
        ("0.5", {}, "progress: must be a number from 0 to 1, not '0.5'"),
        (True, {}, "progress: must be a number from 0 to 1, not True"),
        ("x" * 10**6, {}, "progress: must be a number from 0 to 1, not 'xxx"),
        ([0.5], {}, "progress: must be a number from 0 to 1"),
        (None, {}, r"progress: needs a fraction from 0 to 1, or current= and total="),
        (None, {"current": 1}, r"progress: needs a fraction"),
        (None, {"total": 1}, r"progress: needs a fraction"),
        (None, {"current": "1", "total": 2}, "current: must be a finite number, not '1'"),
        (None, {"current": 1, "total": float("nan")}, "total: must be a finite number, not nan"),
        (None, {"current": 1, "total": 0}, "total: must be above 0, not 0"),
        (None, {"current": 1, "total": -5}, "total: must be above 0, not -5"),
        (0.5, {"progress": 50}, "progress: is not a keyword"),
    ],
)
def test_anything_else_is_refused_with_what_is_meant(
    given: Any, data: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        progress_data(given, data)
    assert len(str(refused.value)) < 200
