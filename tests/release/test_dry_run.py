"""The way from the files of a release to a running gateway, as a user goes it.

The steps are those of `make release-dry-run`, so its output names the one that failed. What a user
gets from a registry comes from `tests/harness/wheelhouse.py` here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from release import npm, tools
from release.dry_run import DryRun
from release.fresh import Fresh
from tests.harness.backend import Backend
from tests.harness.fixtures import backend
from tests.harness.replica import Replica
from tests.harness.wheelhouse import pip_environment, wheelhouse
from tests.servers.standalone import Server

__all__ = ["backend"]
#: Installations, an npm build and a demo; or the build of actionlint.
TIMEOUT_S = 900


@pytest.mark.full
@pytest.mark.timeout(TIMEOUT_S)
def test_the_wheel_starts_where_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group in ("build", "release"):
        tools.python(group)
    for name, value in pip_environment(wheelhouse()).items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    dry_run = DryRun(tmp_path / "work", said.append)
    dry_run.into = tmp_path / "dist"
    dry_run.python_package()
    dry_run.started_from_the_packages()
    dry_run.sbom()
    assert "tidegate run: started from the wheel, published, watched, page loaded" in said
    assert {path.suffix for path in dry_run.into.iterdir()} == {".whl", ".gz", ".json"}


@pytest.mark.full
@pytest.mark.real("node")
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.xdist_group("js")
async def test_the_npm_package_watches_an_operation_in_an_application(
    tmp_path: Path, redis_server: Server, backend: Backend
) -> None:
    tarball = npm.pack(tmp_path / "dist")
    application = npm.Application(tmp_path / "application", tarball)
    await backend.publish("release", "progress", progress=0.5)
    await backend.finish("release")
    async with Replica(redis_server.url) as replica:
        url = f"http://127.0.0.1:{replica.settings.server.port}"
        seen = await asyncio.to_thread(application.watch, url, "release")
    assert seen["status"] == "completed"
    assert seen["types"][-2:] == ["progress", "operation_completed"]


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
