"""Patterns of operation ids in which only `*` is special: any characters, also none.

No regular expression and no `fnmatch`, because patterns come with tokens: this takes time in
proportion to the two lengths, whatever the pattern.
"""

from __future__ import annotations

PATTERN_MAX_LENGTH = 256


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` covers all of `text`."""
    head, star, rest = pattern.partition("*")
    if not star:
        return pattern == text
    *middle, tail = rest.split("*")
    if len(text) < len(head) + len(tail) or not (text.startswith(head) and text.endswith(tail)):
        return False
    at, end = len(head), len(text) - len(tail)
    for part in middle:
        # The first place is as good as any: what follows it may only be longer.
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
