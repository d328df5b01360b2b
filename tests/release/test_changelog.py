"""Sections and changes of CHANGELOG.md."""

from __future__ import annotations

import pytest

from release import changelog
from release.changelog import Change
from release.command import ReleaseError

SOURCE = """# Changelog

Words about the form.

## [Unreleased]

### Added

- One thing.

## [0.2.0] - 2026-12-01

### Fixed

- Another, with a [link](docs/a.md).

### Security

- A third.

## [0.1.0]

- Without a group.
"""


def test_sections_have_version_date_and_text() -> None:
    found = changelog.sections(SOURCE)
    assert [(one.version, one.date) for one in found] == [
        ("Unreleased", None),
        ("0.2.0", "2026-12-01"),
        ("0.1.0", None),
    ]
    assert found[0].text == "### Added\n\n- One thing."


def test_changes_have_the_kind_of_their_group() -> None:
    text = changelog.section("0.2.0", changelog.sections(SOURCE), released=True).text
    assert list(changelog.changes(text)) == [
        Change("fixed", "Another, with a [link](docs/a.md)."),
        Change("security", "A third."),
    ]


def test_a_version_without_a_section_is_that_of_unreleased_until_it_is_released() -> None:
    of = changelog.sections(SOURCE)
    assert changelog.section("0.3.0", of, released=False).version == "Unreleased"
    with pytest.raises(ReleaseError, match=r"nothing under \[0\.3\.0\]"):
        changelog.section("0.3.0", of, released=True)


def test_a_released_version_needs_a_date() -> None:
    with pytest.raises(ReleaseError, match="has no date"):
        changelog.section("0.1.0", changelog.sections(SOURCE), released=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [("### News\n- A\n", "is not one of"), ("- A\n", "is in no group")],
)
def test_what_is_not_of_the_form_is_refused(text: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        list(changelog.changes(text))


def test_the_changelog_has_entries_for_the_next_release() -> None:
    unreleased = changelog.section("999.0.0", changelog.read(), released=False)
    kinds = {change.kind for change in changelog.changes(unreleased.text)}
    assert kinds <= set(changelog.GROUPS)
    assert kinds
