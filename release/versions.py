"""One version in all places that have it, and one address of the repository.

The version of `service/tidegate/__init__.py` is the one that counts; the browser client, its lock
file and the chart repeat it, because their tools read it from their own files. It has three
numbers: Python and npm write anything before a release differently.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

import yaml

from release import changelog
from release.command import ROOT, ReleaseError

SOURCE = "service/tidegate/__init__.py"
_VERSION = re.compile(r'^__version__ = "(\d+\.\d+\.\d+)"$', re.MULTILINE)


def version() -> str:
    """The one that counts."""
    found = _VERSION.search((ROOT / SOURCE).read_text("utf-8"))
    if found is None:
        raise ReleaseError(f'{SOURCE} has no line such as __version__ = "1.2.3"')
    return found[1]


def versions() -> dict[str, str]:
    """Place -> version."""
    package, lock = _package("package.json"), _package("package-lock.json")
    chart = _chart()
    return {
        SOURCE: version(),
        "clients/js/package.json": package["version"],
        "clients/js/package-lock.json": lock["version"],
        "clients/js/package-lock.json, packages": lock["packages"][""]["version"],
        "helm/tidegate/Chart.yaml, version": str(chart["version"]),
        "helm/tidegate/Chart.yaml, appVersion": str(chart["appVersion"]),
    }


def repositories() -> dict[str, str]:
    """Place -> address of the repository. npm refuses provenance if its own is another one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    package = _package("package.json")["repository"]["url"]
    return {
        "pyproject.toml, project.urls": project["urls"]["Repository"],
        "clients/js/package.json": package.removeprefix("git+").removesuffix(".git"),
        "helm/tidegate/Chart.yaml, sources": _chart()["sources"][0],
    }


def disagreements(tag: str | None = None) -> list[str]:
    """What a release must not be made of, one line each; with the `tag` it is made for."""
    found = [*_differences(versions()), *_differences(repositories())]
    wanted = version()
    if tag is not None and tag != f"v{wanted}":
        found.append(f"the tag is {tag}, and {SOURCE} has {wanted}: tag v{wanted}")
    try:
        entries = changelog.section(wanted, changelog.read(), released=tag is not None)
        list(changelog.changes(entries.text))
    except ReleaseError as error:
        found.append(str(error))
    return found


def _differences(values: Mapping[str, str]) -> list[str]:
    (first, wanted), *others = values.items()
    return [
        f"{place} has {value}, and {first} has {wanted}"
        for place, value in others
        if value != wanted
    ]


def _package(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "clients" / "js" / name).read_text("utf-8"))
    return found


def _chart() -> dict[str, Any]:
    text = (ROOT / "helm" / "tidegate" / "Chart.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found
