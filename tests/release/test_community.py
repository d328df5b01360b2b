"""The forms of issues, and the files that people look for in a repository."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml

from release import versions
from release.command import ROOT

FOLDER = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = sorted(path.stem for path in FOLDER.glob("*.yml") if path.stem != "config")
#: Of a form's element -> what its `attributes` must have.
NEEDED = {
    "markdown": {"value"},
    "input": {"label"},
    "textarea": {"label"},
    "dropdown": {"label", "options"},
}


def form(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    return found


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_one_that_can_be_shown(name: str) -> None:
    shown = form(name)
    assert shown.keys() >= {"name", "description", "body"}
    for element in shown["body"]:
        assert element["attributes"].keys() >= NEEDED[element["type"]]
    ids = Counter(element["id"] for element in shown["body"] if element["type"] != "markdown")
    assert set(ids.values()) == {1}


def test_a_vulnerability_has_a_place_that_is_not_an_issue() -> None:
    config = form("config")
    assert config["blank_issues_enabled"] is False
    repository = versions.repositories()["pyproject.toml, project.urls"]
    urls = [link["url"] for link in config["contact_links"]]
    assert all(url.startswith(repository) for url in urls)
    assert f"{repository}/security/advisories/new" in urls


@pytest.mark.parametrize(
    "name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE"]
)
def test_files_that_people_look_for(name: str) -> None:
    assert (ROOT / name).stat().st_size > 200
