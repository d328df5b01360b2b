"""`*` is the only special character, and no pattern takes long."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tidegate.web.auth.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("job-1", "job-1", True),
        ("job-1", "job-12", False),
        ("*", "anything", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("job-*", "job-", True),
        ("job-*", "xjob-1", False),
        ("*-end", "a-end", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("ab*bc", "abc", False),
        ("a**b", "ab", True),
        ("job-?", "job-1", False),
        ("job-[12]", "job-1", False),
        ("job.1", "jobx1", False),
    ],
)
def test_patterns(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@hypothesis_settings(deadline=None)
@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_like_the_regular_expression_that_it_replaces(pattern: str, text: str) -> None:
    rule = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, text) is (re.fullmatch(rule, text) is not None)


def test_a_pattern_made_to_take_long_does_not() -> None:
    started = time.thread_time()  # others may have the processor meanwhile
    assert not matches("*a" * 128 + "*b", "a" * 128)
    assert time.thread_time() - started < 0.1
