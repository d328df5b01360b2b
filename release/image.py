"""The image, where it can be built here: buildah, and the base image in the store of the lab.

A release builds it with buildx for two processors (`.github/workflows/release.yml`); this proves
that the Dockerfile and requirements/ agree with each other, on one.
"""

from __future__ import annotations

import re

from release.command import ROOT, cache, find, run

LAB = ROOT / "tests" / "cluster" / "lab"
TAG = "docker.io/tidegate/tidegate:release"
TIMEOUT_S = 1_800


def missing() -> str | None:
    """Why it cannot be built here; None if it can."""
    if find("buildah") is None:
        return "no buildah here (Debian: apt-get install buildah)"
    if not (cache() / "images" / "python.tar").exists():
        return "no base image here: tests/cluster/lab/images.sh python makes one"
    return None


def build() -> None:
    """Into the store of the lab, under `TAG`. Raises `ReleaseError`."""
    run(LAB / "load.sh", "--build", TAG, ROOT, timeout_s=TIMEOUT_S)
    # An archive for a node that nobody imports it into.
    (cache() / "lab" / f"built-{re.sub('[^a-zA-Z0-9.]', '-', TAG)}.tar").unlink(missing_ok=True)
