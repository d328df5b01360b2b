"""What is wrong with a distribution is found: files too many, files missing, metadata missing."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from release import compiled, distributions
from release.command import ROOT, run
from release.distributions import Distributions

TRACKED = [
    *sorted(distributions.NEEDED),
    "service/tidegate/__init__.py",
    "service/tidegate/redis/scripts/read.lua",
    "operator/tidegate_operator/py.typed",
    "tests/test_a.py",
]
METADATA = "\n".join(
    [
        "Metadata-Version: 2.4",
        "Name: tidegate",
        "Summary: One",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.11",
        "Keywords: redis",
        "Description-Content-Type: text/markdown",
        "Classifier: Typing :: Typed",
        *(f"Project-URL: {name}, https://example.com" for name in sorted(distributions.URLS)),
    ]
)
WHEEL = {
    "tidegate/__init__.py": "",
    "tidegate/redis/scripts/read.lua": "",
    "tidegate_operator/py.typed": "",
    "tidegate-1.0.dist-info/METADATA": METADATA,
    "tidegate-1.0.dist-info/licenses/LICENSE": "",
}


def made(tmp_path: Path, wheel: Mapping[str, str], sdist: list[str]) -> Distributions:
    paths = Distributions(tmp_path / "a.tar.gz", tmp_path / "a.whl")
    with zipfile.ZipFile(paths.wheel, "w") as archive:
        for name, text in wheel.items():
            archive.writestr(name, text)
    with tarfile.open(paths.sdist, "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"tidegate-1.0/{name}"), io.BytesIO())
    return paths


def faults(
    tmp_path: Path, wheel: Mapping[str, str] = WHEEL, sdist: list[str] = TRACKED
) -> list[str]:
    return list(distributions.faults(made(tmp_path, wheel, [*sdist, "PKG-INFO"]), TRACKED))


def test_a_sound_one_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path) == []


@pytest.mark.parametrize("name", [name for name in WHEEL if "dist-info" not in name])
def test_a_file_that_a_wheel_lacks_is_named(tmp_path: Path, name: str) -> None:
    wheel = {one: text for one, text in WHEEL.items() if one != name}
    assert faults(tmp_path, wheel) == [f"wheel: {name} is missing"]


@pytest.mark.parametrize("name", ["tests/test_a.py", "tidegate/left_over.py", "conftest.py"])
def test_a_file_that_does_not_belong_there_is_named(tmp_path: Path, name: str) -> None:
    assert faults(tmp_path, {**WHEEL, name: ""}) == [f"wheel: {name} does not belong there"]


def test_what_is_not_under_version_control_is_not_in_an_sdist(tmp_path: Path) -> None:
    found = faults(tmp_path, sdist=[*TRACKED, "service/tidegate/secret.env"])
    assert found == ["sdist: service/tidegate/secret.env is not under version control"]


@pytest.mark.parametrize("name", sorted(distributions.NEEDED))
def test_an_sdist_without_what_it_needs_is_refused(tmp_path: Path, name: str) -> None:
    sdist = [one for one in TRACKED if one != name]
    assert faults(tmp_path, sdist=sdist) == [f"sdist: {name} is missing"]


def test_a_wheel_without_its_license_is_refused(tmp_path: Path) -> None:
    wheel = {one: text for one, text in WHEEL.items() if "licenses/" not in one}
    assert faults(tmp_path, wheel) == ["wheel: it has no license file"]


@pytest.mark.parametrize("line", METADATA.splitlines()[2:])
def test_metadata_that_is_missing_is_named(tmp_path: Path, line: str) -> None:
    less = "\n".join(one for one in METADATA.splitlines() if one != line)
    (found,) = faults(tmp_path, {**WHEEL, "tidegate-1.0.dist-info/METADATA": less})
    assert found.startswith("metadata: ")


def test_the_packages_have_what_is_not_python() -> None:
    wanted = distributions.in_wheel(distributions.tracked())
    kinds = {name.rpartition(".")[2] for name in wanted}
    assert {"py", "lua", "html", "js", "css", "svg", "typed"} <= kinds
    assert not [name for name in wanted if "test" in name.rpartition("/")[2]]


def test_a_link_to_an_environment_was_under_version_control() -> None:
    """It took the place of the real one in every checkout, also in that of CI."""
    listed = run("git", "ls-files", "--stage")
    assert [line for line in listed.splitlines() if line.startswith("120000 ")] == []
    assert run("git", "ls-files", "--cached", "--ignored", "--exclude-standard") == ""


def test_what_is_compiled_is_there() -> None:
    missing = [name for name in compiled.modules() if not (ROOT / "service" / name).is_file()]
    assert missing == []
    assert "tidegate/core/topic.py" in compiled.modules(), "by which `engine` tells what runs"
