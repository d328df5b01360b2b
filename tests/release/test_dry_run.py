"""The way from the files of a release to a running gateway, as a user goes it. Needs a registry.

One test, because each step uses what the one before it built; the steps are those of
`make release-dry-run`, so its output names the one that failed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from release import tools
from release.dry_run import DryRun
from release.fresh import Fresh

#: Installations from a registry, an npm build and a demo; or the build of actionlint.
TIMEOUT_S = 900


@pytest.mark.full
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.xdist_group("js")
def test_the_packages_start_where_nothing_else_is(tmp_path: Path) -> None:
    said: list[str] = []
    dry_run = DryRun(tmp_path / "work", said.append)
    dry_run.into = tmp_path / "dist"
    dry_run.python_package()
    dry_run.npm_package()
    dry_run.started_from_the_packages()
    dry_run.sbom()
    assert "tidegate run: started from the wheel, published, watched, page loaded" in said
    assert {path.suffix for path in dry_run.into.iterdir()} >= {".whl", ".gz", ".json"}


@pytest.mark.full
@pytest.mark.timeout(TIMEOUT_S)
def test_a_fresh_environment_has_no_compiler_and_nothing_of_the_checkout(tmp_path: Path) -> None:
    fresh = Fresh(tmp_path)
    asked = "import shutil, sys; print([shutil.which(n) for n in sys.argv[1:]], sys.path)"
    said = fresh.python("-c", asked, "cc", "gcc", "clang", "make", "git", "tidegate")
    assert said.startswith(f"{[None] * 6}")
    assert str(Path(__file__).parents[2]) not in said


@pytest.mark.full
@pytest.mark.timeout(TIMEOUT_S)
def test_actionlint_accepts_the_workflows(tmp_path: Path) -> None:
    if tools.actionlint() is None:
        pytest.skip("no Go here to build actionlint with, and none on PATH")
    dry_run = DryRun(tmp_path, print)
    dry_run.workflows_are_valid()
    assert dry_run.skipped == []
