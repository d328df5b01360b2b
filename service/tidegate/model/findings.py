"""What `tidegate doctor` finds: one line for each thing that it tried.

A finding says what was found and, unless that is good, what to change. It never repeats a password
or a token.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple


class FindingLevel(enum.Enum):
    """Whether a gateway will work with it."""

    OK = "ok"
    #: It works, with a limit that should be known.
    WARNING = "warning"
    FAILED = "failed"
    #: Not known: it could not be read, or something before it failed.
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """`where`: a server or an address; `advice`: what to change, empty for what is good."""

    where: str
    check: str
    verdict: FindingLevel
    found: str
    advice: str = ""


def worst(findings: Iterable[Finding]) -> FindingLevel:
    """The verdict over all; what is not known does not make it worse than a warning."""
    verdicts = {finding.verdict for finding in findings}
    if FindingLevel.FAILED in verdicts:
        return FindingLevel.FAILED
    return (
        FindingLevel.WARNING
        if verdicts & {FindingLevel.WARNING, FindingLevel.UNKNOWN}
        else FindingLevel.OK
    )
