"""The form of workflows: ours is sound, and each thing that we forbid is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from release import workflows
from release.command import ROOT

DIGEST = "0123456789abcdef0123456789abcdef01234567"
SOUND = f"""\
name: sound
"on": push
permissions: {{}}
jobs:
  one:
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@{DIGEST} # v6.0.2
        with:
          persist-credentials: false
      - run: make check
  other:
    uses: ./.github/workflows/other.yml
    permissions: {{}}
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "one.yml").write_text(text)
    return workflows.faults(tmp_path)


def test_our_workflows_have_no_fault() -> None:
    assert {path.stem for path in workflows.FOLDER.iterdir()} == {"check", "nightly", "release"}
    assert workflows.faults() == []


def test_a_sound_one_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, SOUND) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (f"@{DIGEST} # v6.0.2", "@v6", "not pinned by the digest"),
        (DIGEST, DIGEST[:12], "not pinned by the digest"),
        (f"@{DIGEST}", f"@{DIGEST}0", "not pinned by the digest"),
        (f"actions/checkout@{DIGEST}", "docker://alpine:3", "not pinned by the digest"),
        (" # v6.0.2", "", "does not name its version"),
        (" # v6.0.2", " # main", "does not name its version"),
        ("permissions: {}\njobs", "permissions: write-all\njobs", "permissions of its own"),
        ("permissions: {}\njobs", "jobs", "permissions of its own"),
        ("    permissions:\n      contents: read\n", "", "lists no permissions"),
        ("    permissions:\n      contents: read\n", "    permissions: read-all\n", "lists no"),
        ("    timeout-minutes: 10\n", "", "timeout-minutes"),
        ("timeout-minutes: 10", "timeout-minutes: 361", "timeout-minutes"),
        ("persist-credentials: false", "fetch-depth: 0", "keeps credentials"),
        ("make check", "echo ${{ github.head_ref }}", "expression in its script"),
        ("name: sound", "name: [", "is not YAML"),
    ],
)
def test_what_is_forbidden_is_found(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in SOUND
    (found,) = faults(tmp_path, SOUND.replace(before, after, 1))
    assert found.startswith("one.yml: ")
    assert said in found


def test_only_what_publishes_may_write() -> None:
    """And each such job is in an environment, for which a person can be asked."""
    release = yaml.safe_load((workflows.FOLDER / "release.yml").read_text())
    writing = {
        name
        for name, job in release["jobs"].items()
        if any(value == "write" for value in job["permissions"].values())
    }
    assert writing == {"image", "chart", "pypi", "npm", "site", "notes"}
    assert {name for name, job in release["jobs"].items() if "environment" in job} == writing
    for name in ("check", "nightly"):
        jobs = yaml.safe_load((workflows.FOLDER / f"{name}.yml").read_text())["jobs"].values()
        assert [job["permissions"] for job in jobs] == [{"contents": "read"}] * len(jobs)


def test_every_supported_python_is_tested() -> None:
    check = yaml.safe_load((workflows.FOLDER / "check.yml").read_text())
    matrix = check["jobs"]["test"]["strategy"]["matrix"]["python"]
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert matrix == [
        line.split(" :: ")[-1].rstrip('",')
        for line in pyproject.splitlines()
        if "Programming Language :: Python :: 3." in line
    ]


def test_the_workflow_makes_what_the_makefile_has() -> None:
    """A target that was renamed would be noticed on the day of a release."""
    makefile = (ROOT / "Makefile").read_text()
    for path in workflows.FOLDER.iterdir():
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        runs = [step.get("run", "") for job in jobs for step in job.get("steps", ())]
        for words in (line.split() for run in runs for line in run.splitlines()):
            if words[:1] == ["make"]:
                targets = [word for word in words[1:] if word[0] != "-" and "=" not in word]
                plain = [word for word in targets if word != ".venv" and not word.startswith('"')]
                for target in (word for word in plain if word.replace("-", "").isalpha()):
                    assert f"\n{target}:" in makefile, f"{path.name}: make {target}"
