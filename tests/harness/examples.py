"""How many examples Hypothesis tries: the given number in the long tier, a share in the quick."""

from __future__ import annotations

from hypothesis import settings

#: What the profile `long` of tests/conftest.py says; the loaded one is the scale.
LONG = 100
LEAST = 5


def examples(long: int) -> int:
    """`settings(max_examples=examples(400))`."""
    return max(LEAST, long * settings().max_examples // LONG)
