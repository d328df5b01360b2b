"""All places have one version and one repository, and one that has another is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from release import changelog, versions
from release.command import ROOT, ReleaseError

PLACES = (
    versions.SOURCE,
    "clients/js/package.json",
    "clients/js/package-lock.json",
    "helm/tidegate/Chart.yaml",
    "pyproject.toml",
    "CHANGELOG.md",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that have a version, to be changed."""
    for name in PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(changelog, "ROOT", tmp_path)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def release(checkout: Path) -> None:
    """Give the changelog the section of the version."""
    change(
        checkout / "CHANGELOG.md",
        "## [Unreleased]",
        f"## [Unreleased]\n\n## [{versions.version()}] - 2026-12-01",
    )


def test_this_checkout_agrees_with_itself() -> None:
    assert versions.disagreements() == []


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("clients/js/package.json", '"version": "', '"version": "9'),
        ("clients/js/package-lock.json", '"version": "', '"version": "9'),
        ("helm/tidegate/Chart.yaml", "\nversion: ", "\nversion: 9"),
        ("helm/tidegate/Chart.yaml", 'appVersion: "', 'appVersion: "9'),
    ],
)
def test_a_place_with_another_version_is_named(
    checkout: Path, place: str, before: str, after: str
) -> None:
    change(checkout / place, before, after)
    (said,) = versions.disagreements()
    assert said.startswith(place)
    assert f"has 9{versions.version()}" in said


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("clients/js/package.json", "git+https://github.com/tidegate/"),
        ("helm/tidegate/Chart.yaml", "  - https://github.com/tidegate/"),
    ],
)
def test_another_repository_is_named(checkout: Path, place: str, text: str) -> None:
    change(checkout / place, text, text.replace("/tidegate/", "/another/"))
    (said,) = versions.disagreements()
    assert said.startswith(place)
    assert "https://github.com/another/tidegate" in said


def test_a_tag_needs_its_section_in_the_changelog(checkout: Path) -> None:
    tag = f"v{versions.version()}"
    assert "nothing under" in versions.disagreements(tag)[0]
    release(checkout)
    assert versions.disagreements(tag) == []


def test_another_tag_is_refused(checkout: Path) -> None:
    release(checkout)
    (said,) = versions.disagreements("v9.9.9")
    assert f"tag v{versions.version()}" in said


def test_a_version_that_npm_would_write_differently_is_refused(checkout: Path) -> None:
    change(checkout / versions.SOURCE, f'"{versions.version()}"', '"1.0.0rc1"')
    with pytest.raises(ReleaseError, match="no line such as"):
        versions.version()
