"""Known vulnerabilities of what the image has, by pip-audit.

Three results: none known, some known, or that it could not look, which is never reported as none.
A package counts as looked up only if the service answered for it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from release.command import ROOT

TIMEOUT_S = 300


class Audit(NamedTuple):
    """`vulnerable` and `unknown` have a line each; `looked_up` is a count of packages."""

    looked_up: int
    vulnerable: tuple[str, ...]
    unknown: tuple[str, ...]


def look(program: Path, requirements: Path = ROOT / "requirements" / "image.txt") -> Audit:
    """Ask about each package; where nothing answers, all of it is in `unknown`."""
    command = [
        str(program),
        "--requirement",
        str(requirements),
        "--require-hashes",
        "--disable-pip",
    ]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", "--timeout", "15"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Audit(0, (), (str(error),))
    try:
        return read(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        return Audit(0, (), (last[0],))


def read(report: dict[str, Any]) -> Audit:
    """Of pip-audit's report. Raises KeyError or TypeError for another form."""
    vulnerable: list[str] = []
    unknown: list[str] = []
    looked_up = 0
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unknown.append(f"{package['name']}: {package['skip_reason']}")
            continue
        looked_up += 1
        for one in package["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no release yet"
            name = f"{package['name']} {package['version']}"
            vulnerable.append(f"{name}: {one['id']}, fixed by {fixed}")
    return Audit(looked_up, tuple(vulnerable), tuple(unknown))


def result(audit: Audit, *, required: bool) -> tuple[int, list[str]]:
    """The exit code and the lines to print. `required`: not having looked is a failure as well."""
    lines = list(audit.vulnerable)
    if audit.unknown:
        lines.append(f"could not look up {len(audit.unknown)} packages: {audit.unknown[0]}")
    if audit.looked_up:
        found = len(audit.vulnerable)
        lines.append(f"{audit.looked_up} packages looked up, {found} known vulnerabilities")
    else:
        lines.append("make audit: nothing was looked up, so nothing is known about vulnerabilities")
    failed = bool(audit.vulnerable) or (required and bool(audit.unknown))
    return int(failed), lines
