"""How many examples Hypothesis tries: the given number in the long tier, a share in the quick."""

from __future__ import annotations

from hypothesis import settings

#: What the profile `long` of tests/conftest.py says; the loaded one is the scale.
LONG = 100
LEAST = 5


def examples(long: int, *, quick: int | None = None) -> int:
    """`settings(max_examples=examples(400))`; `quick` where a share of it would still take long."""
    if quick is not None and settings().max_examples < LONG:
        return quick
    return max(LEAST, long * settings().max_examples // LONG)
