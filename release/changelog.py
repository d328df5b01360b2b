"""CHANGELOG.md, by section: the notes of a release, and the changes that Artifact Hub shows.

A section begins with `## [Unreleased]` or `## [1.2.3] - 2026-01-31`; below it are the groups of
Keep a Changelog (`### Added`), and a change is a list item of one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from release.command import ROOT, ReleaseError

UNRELEASED = "Unreleased"
GROUPS = ("added", "changed", "deprecated", "removed", "fixed", "security")
#: Artifact Hub shows a list; a longer one is cut, with a link to the rest.
CHANGES_MAX = 40
_SECTION = re.compile(
    r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?\n(?P<text>.*?)(?=^## |\Z)",
    re.DOTALL | re.MULTILINE,
)


class Section(NamedTuple):
    """One release. `date` is None of what is not released yet."""

    version: str
    date: str | None
    text: str


class Change(NamedTuple):
    """`kind` is one of `GROUPS`."""

    kind: str
    text: str


def sections(source: str) -> list[Section]:
    """All of them, the newest first."""
    return [
        Section(found["version"], found["date"], found["text"].strip())
        for found in _SECTION.finditer(source)
    ]


def read() -> list[Section]:
    """Those of the changelog of this checkout."""
    return sections((ROOT / "CHANGELOG.md").read_text("utf-8"))


def section(version: str, of: list[Section], *, released: bool) -> Section:
    """That of `version`; if it need not be `released`, else what is not released yet."""
    named = {one.version: one for one in of}
    found = named.get(version) or (None if released else named.get(UNRELEASED))
    if found is None or not found.text:
        raise ReleaseError(
            f"CHANGELOG.md has nothing under [{version}]: "
            f"rename [{UNRELEASED}] to `## [{version}] - <date>`"
        )
    if released and found.date is None:
        raise ReleaseError(f"CHANGELOG.md: [{version}] has no date (`## [{version}] - <date>`)")
    return found


def changes(text: str) -> Iterator[Change]:
    """The list items of a section, in their order."""
    kind = ""
    for line in text.splitlines():
        if line.startswith("### "):
            kind = line.removeprefix("### ").strip().lower()
            if kind not in GROUPS:
                raise ReleaseError(f"CHANGELOG.md: {line!r} is not one of {', '.join(GROUPS)}")
        elif line.startswith("- "):
            if not kind:
                raise ReleaseError(f"CHANGELOG.md: {line[:60]!r} is in no group (`### Added`)")
            yield Change(kind, line.removeprefix("- ").strip())
