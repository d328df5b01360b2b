"""requirements/ agrees with constraints.txt and pyproject.toml, and names no place."""

from __future__ import annotations

import re
import tomllib

import pytest

from release import hashes
from release.command import ROOT

FILES = {name: (hashes.FOLDER / f"{name}.txt").read_text() for name in hashes.SOURCES}
CONSTRAINTS = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", one) for one in requirements)
    return {hashes.normalized(match[0]) for match in found if match is not None}


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_a_version_with_hashes(name: str) -> None:
    assert FILES[name].startswith(hashes.HEAD)
    assert hashes.unreadable(FILES[name]) == ""


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_a_place(name: str) -> None:
    assert re.findall(r"https?:|--index|--find-links|--extra-index", FILES[name]) == []


@pytest.mark.parametrize("name", FILES)
def test_versions_are_those_of_the_constraints(name: str) -> None:
    """If this fails after a change of pyproject.toml or constraints.txt: make hashes."""
    wanted = {hashes.normalized(one): version for one, version in CONSTRAINTS.items()}
    found = hashes.pins(FILES[name])
    other = {one: version for one, version in found.items() if wanted.get(one, version) != version}
    assert other == {}


def test_the_image_has_all_that_it_depends_on() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = names([*project["dependencies"], *extras["operator"], *extras["otlp"]])
    assert wanted <= hashes.pins(FILES["image"]).keys()


@pytest.mark.parametrize("group", ["build", "release"])
def test_a_group_has_all_its_members(group: str) -> None:
    wanted = names(PYPROJECT["dependency-groups"][group])
    assert wanted <= hashes.pins(FILES[group]).keys()


def test_the_build_backend_is_the_one_that_the_image_is_built_with() -> None:
    assert PYPROJECT["build-system"]["requires"][0] in PYPROJECT["dependency-groups"]["build"]


@pytest.mark.parametrize(
    "text",
    [
        "one==1.0\n",
        "one==1.0 \\\n    --hash=md5:00\n",
        "--index-url https://example.com\n",
        "one @ https://example.com/one.whl\n",
        f"one>=1.0 \\\n    --hash=sha256:{'0' * 64}\n",
    ],
)
def test_what_is_not_a_version_with_hashes_is_left_over(text: str) -> None:
    assert hashes.unreadable(hashes.HEAD + text) == text
