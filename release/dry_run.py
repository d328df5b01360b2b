"""`make release-dry-run`: all of a release except publishing it.

Steps run one after the other and each says what it made; one whose program is missing here is
skipped, by name and with the reason, unless everything is required. What is made stays in dist/.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from release import (
    changelog,
    chart,
    compiled,
    distributions,
    image,
    npm,
    tools,
    versions,
    workflows,
)
from release.command import ROOT, ReleaseError, find, run
from release.fresh import Demo, Fresh

OPERATION = "release"


class DryRun:
    """One run. `work` is a folder outside the checkout; `say` prints a line."""

    def __init__(self, work: Path, say: Callable[[str], None], *, newest: bool = False) -> None:
        self.work = work
        self.into = ROOT / "dist"
        self.skipped: list[str] = []
        self._say = say
        self._newest = newest
        self._fresh: Fresh | None = None
        self._tarball: Path | None = None

    def all(self) -> None:
        """Every step. Raises `ReleaseError` at the first that fails."""
        shutil.rmtree(self.into, ignore_errors=True)
        self.versions_agree()
        self.workflows_are_valid()
        self.python_package()
        self.compiled_wheel()
        self.npm_package()
        self.started_from_the_packages()
        self.sbom()
        self.chart_package()
        self.container_image()

    def versions_agree(self, tag: str | None = None) -> None:
        """In all places; with that of the tag, if there is one."""
        if found := versions.disagreements(tag):
            raise ReleaseError("\n".join(found))
        self._say(f"versions: {versions.version()} in {len(versions.versions())} places")

    def workflows_are_valid(self) -> None:
        """By our own rules, and by actionlint."""
        if found := workflows.faults():
            raise ReleaseError("\n".join(found))
        program = tools.actionlint()
        if program is None:
            self._skip("workflows: no Go here to build actionlint with")
        else:
            # shellcheck and pyflakes are used only if they happen to be there: not by chance.
            run(program, "-shellcheck=", "-pyflakes=", cwd=ROOT)
        self._say(f"workflows: {len(list(workflows.FOLDER.glob('*.yml')))} are valid")

    def python_package(self) -> None:
        """Built, and installed where nothing else is."""
        made = distributions.build(tools.python("build"), self.into, self.work / "distributions")
        self._say(f"sdist, wheel: {made.sdist.name}, {made.wheel.name}")
        self._fresh = Fresh(self.work / "fresh")
        self._fresh.install(made.wheel, newest=self._newest)

    def compiled_wheel(self) -> None:
        """Made, installed and asked."""
        if reason := compiled.missing():
            self._skip(f"compiled wheel: {reason}")
            return
        sdists = list((self.work / "distributions").glob("tidegate-*/"))
        fresh = Fresh(self.work / "fresh-compiled")
        made = compiled.build(fresh.venv / "bin" / "python", sdists[0], self.work / "compiled")
        fresh.install(made, newest=self._newest)
        if "(compiled)" not in (said := fresh.tidegate("--version")):
            raise ReleaseError(f"the compiled wheel says {said}")
        self._say(f"compiled wheel: {made.name}, {len(compiled.modules())} modules")

    def npm_package(self) -> None:
        """Built and packed."""
        if not npm.node():
            self._skip(f"npm package: no Node {npm.NODE_MIN} or newer with npm here")
            return
        self._tarball = npm.pack(self.into)
        self._say(f"npm package: {self._tarball.name}")

    def started_from_the_packages(self) -> None:
        """`tidegate run` of the wheel; an operation watched with it and with the npm package."""
        assert self._fresh is not None
        fresh = self._fresh
        with Demo(fresh) as demo:
            to = ("--redis", demo.redis_url)
            fresh.tidegate("publish", OPERATION, '{"progress": 0.5}', *to)
            fresh.tidegate("publish", OPERATION, '{"status": "completed"}', *to)
            # Ends with 0 only if the operation completed.
            fresh.tidegate("watch", OPERATION, "--url", demo.urls[0].replace("http", "ws", 1))
            page = fresh.python("-c", _GET, f"{demo.urls[0]}/")
            if "<html" not in page:
                raise ReleaseError(f"no page at {demo.urls[0]}/: {page[:200]}")
            self._say("tidegate run: started from the wheel, published, watched, page loaded")
            if self._tarball is not None:
                application = npm.Application(self.work / "application", self._tarball)
                seen = application.watch(demo.urls[-1], OPERATION)
                if seen["status"] != "completed":
                    raise ReleaseError(f"the npm package saw {seen}")
                self._say("npm package: installed in an application, watched the same operation")

    def sbom(self) -> None:
        """What the wheel brings, in CycloneDX."""
        assert self._fresh is not None
        made = self.into / f"tidegate-{versions.version()}.cdx.json"
        words = ("environment", "--output-reproducible", "--output-format", "JSON")
        program = tools.python("release").with_name("cyclonedx-py")
        run(program, *words, "--output-file", made, self._fresh.venv / "bin" / "python")
        self._say(f"SBOM: {made.name}")

    def chart_package(self) -> None:
        """Packaged, linted and rendered, with an image by digest as in a release."""
        if find("helm") is None:
            self._skip("chart: no helm here (tests/cluster/lab/build.sh helm)")
            return
        section = changelog.section(versions.version(), changelog.read(), released=False)
        made = chart.package(self.into, self.work / "chart", section, image=_EXAMPLE_IMAGE)
        # It names an image that does not exist, so nobody may take it for the real one.
        made.unlink()
        made = chart.package(self.into, self.work / "plain", section, signed_by=chart.key())
        self._say(f"chart: {made.name}, linted and rendered")

    def container_image(self) -> None:
        """Where the machine can."""
        if reason := image.missing():
            self._skip(f"image: {reason}")
            return
        image.build()
        self._say(f"image: {image.TAG}")

    def _skip(self, what: str) -> None:
        self.skipped.append(what)


_EXAMPLE_IMAGE = f"registry.example.com/tidegate@sha256:{'0' * 64}"
_GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=30).read().decode())"


def dry_run(say: Callable[[str], None], *, newest: bool, required: bool) -> None:
    """All steps. `required`: raises `ReleaseError` if one was skipped."""
    with tempfile.TemporaryDirectory(prefix="tidegate-release-") as folder:
        one = DryRun(Path(folder), say, newest=newest)
        one.all()
    for what in one.skipped:
        say(f"skipped: {what}")
    if required and one.skipped:
        raise ReleaseError(f"{len(one.skipped)} steps were skipped, and all are required")
    say("everything was built in dist/ and nothing was published")
