"""What the Dockerfile promises, read from it; `tests/cluster` looks at a pod that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

LINES = (Path(__file__).parents[2] / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
FROM = [number for number, line in enumerate(LINES) if line.startswith("FROM ")]
BUILD, END = LINES[FROM[-2] : FROM[-1]], LINES[FROM[-1] :]


def words(lines: list[str], instruction: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in lines if line.startswith(f"{instruction} ")]


def test_all_stages_are_of_one_base() -> None:
    assert [LINES[number].split()[1] for number in FROM] == ["${BASE}"] * 2
    assert "ARG BASE=python:3.13-slim" in LINES[: FROM[0]]


def test_what_is_installed_has_hashes() -> None:
    """Of our own wheel there is none: it is built in the step before."""
    (variables,) = words(BUILD, "ENV")
    assert "PIP_REQUIRE_HASHES=1" in variables
    assert "PIP_ONLY_BINARY=:all:" in variables
    installs = re.findall(r"pip install (.*?)(?: &&|$)", " && ".join(words(BUILD, "RUN")))
    assert [one.strip() for one in installs] == [
        "--requirement requirements/image.txt",
        # mypyc reads the types of what the image has.
        "--requirement requirements/build.txt ${COMPILE:+--requirement requirements/image.txt}",
        "--no-deps /wheel/*.whl",
    ]


def test_nothing_is_installed_or_run_in_the_end_stage() -> None:
    """So it has no compiler but one of the base, which has none."""
    assert words(END, "RUN") == []
    assert words(END, "COPY") == ["--from=build /opt/tidegate /opt/tidegate"]
    assert words(END, "ADD") == []


def test_pip_stays_behind() -> None:
    assert any("pip uninstall --yes" in command for command in words(BUILD, "RUN"))


def test_it_runs_as_a_number_that_is_not_root() -> None:
    """Kubernetes can check `runAsNonRoot` for numbers only."""
    (user,) = words(END, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_it_has_the_labels_of_oci() -> None:
    (text,) = words(END, "LABEL")
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]+)"', text))
    assert labels["base.name"].endswith(LINES[FROM[-1]].split()[1])
    assert labels["version"] == "${VERSION}"
    assert labels["revision"] == "${REVISION}"
    assert labels["licenses"] == "Apache-2.0"
    assert {"title", "description", "authors"} <= labels.keys()


def test_it_listens_at_every_address_of_both_families() -> None:
    """A cluster may have IPv6 only."""
    (command,) = words(END, "CMD")
    assert json.loads(command)[-2:] == ["--host", "::"]
