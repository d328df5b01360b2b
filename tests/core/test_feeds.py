"""What a feed's entries list, whatever they hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.feeds import LISTED_MAX, TITLE_MAX_CHARS, Listed, newest_first, read_listed
from tidegate.model.ids import OperationId


def entry(number: int, operation: object, title: object = None, **more: Any) -> dict[str, Any]:
    data = {"operation": operation} | ({} if title is None else {"title": title})
    return {"id": f"{number}-0", "type": "listed", "data": data, **more}


def test_newest_first_and_each_once() -> None:
    entries = [entry(1, "a", "A"), entry(2, "b"), entry(3, "a", "A again"), entry(4, "c")]
    assert newest_first(entries) == [
        Listed(OperationId("c"), "", "4-0"),
        Listed(OperationId("a"), "A again", "3-0"),
        Listed(OperationId("b"), "", "2-0"),
    ]
    assert [one.operation for one in newest_first(entries, 2)] == ["c", "a"]


HOSTILE: list[dict[str, Any]] = [
    {},
    {"id": "1-0", "type": "listed"},
    {"id": "1-0", "type": "listed", "data": None},
    {"id": "1-0", "type": "listed", "data": ["42"]},
    {"id": "1-0", "type": "progress", "data": {"operation": "42"}},
    {"id": None, "type": "listed", "data": {"operation": "42"}},
    entry(1, 42),
    entry(1, ""),
    entry(1, "../x"),
    entry(1, "x" * 129),
    entry(1, "a\n"),
    entry(1, {"a": 1}),
]


@pytest.mark.parametrize("frame", HOSTILE)
def test_what_lists_nothing(frame: dict[str, Any]) -> None:
    assert read_listed(frame) is None


def test_a_title_is_a_text_of_bounded_length() -> None:
    for title, shown in ((7, ""), (["x"], ""), ("x" * 1_000, "x" * TITLE_MAX_CHARS)):
        found = read_listed(entry(1, "42", title))
        assert found is not None
        assert found.title == shown


@given(st.lists(st.integers(0, 300), max_size=400))
def test_the_list_is_that_of_the_newest_entries(operations: list[int]) -> None:
    entries = [entry(n, f"op-{operation}") for n, operation in enumerate(operations, 1)]
    found = [one.operation for one in newest_first(entries)]
    expected = list(dict.fromkeys(f"op-{one}" for one in reversed(operations)))[:LISTED_MAX]
    assert found == expected
