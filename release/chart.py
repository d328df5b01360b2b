"""The chart as it is published: packaged from a copy that names its image and its changes.

The copy differs from `helm/tidegate` in three things: Artifact Hub's list of changes, made from
CHANGELOG.md; the image, by the digest that was built for this release; and, if it is signed with a
PGP key, the annotation that names that key. Whatever is made from the values is made again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from release import changelog
from release.changelog import CHANGES_MAX, Section
from release.command import ROOT, ReleaseError, find, run

_IMAGE = re.compile(r"(?P<name>[a-z0-9.:/_-]+)@(?P<digest>sha256:[0-9a-f]{64})")
#: Values that the chart must be installable with.
VALUES = (None, "values-production.yaml", "values-gitops.yaml")


class Key(NamedTuple):
    """A PGP key: `name` is whose, in `keyring` (a file of secret keys)."""

    name: str
    keyring: str
    fingerprint: str
    url: str


def key(environment: Mapping[str, str] = os.environ) -> Key | None:
    """The key of `CHART_SIGN_NAME`, `_KEYRING`, `_FINGERPRINT` and `_URL`; None without any."""
    names = [f"CHART_SIGN_{field.upper()}" for field in Key._fields]
    if not any(environment.get(name) for name in names):
        return None
    if missing := [name for name in names if not environment.get(name)]:
        raise ReleaseError(f"a chart is signed only if all are set: {', '.join(missing)} missing")
    return Key(*(environment[name] for name in names))


def package(
    into: Path,
    work: Path,
    section: Section,
    *,
    image: str | None = None,
    signed_by: Key | None = None,
) -> Path:
    """The packaged chart, linted and rendered. `image` is a name with a digest."""
    helm = find("helm")
    if helm is None:
        raise ReleaseError("no helm here")
    staged = _staged(work, section, image, signed_by)
    into.mkdir(parents=True, exist_ok=True)
    sign = ("--sign", "--key", signed_by.name, "--keyring", signed_by.keyring) if signed_by else ()
    said = run(helm, "package", staged, "--destination", into.resolve(), *sign)
    made = Path(said.strip().rpartition(": ")[2])
    for name in VALUES:
        values = () if name is None else ("--values", staged / name)
        run(helm, "lint", "--strict", made, *values)
        # There is no cluster here; the others bring all of their Secrets.
        generate = ("--set", "generateSecrets=always") if name is None else ()
        text = run(helm, "template", "tidegate", made, "--include-crds", *generate, *values)
        if image and name is None and image not in text:
            raise ReleaseError(f"{made.name} does not install {image}")
    return made


def release_annotations(
    section: Section, image: str | None = None, signed_by: Key | None = None
) -> dict[str, str]:
    """Those that are made for a release; Artifact Hub reads YAML in them."""
    listed = list(changelog.changes(section.text))
    entries = [{"kind": kind, "description": text} for kind, text in listed[:CHANGES_MAX]]
    if len(listed) > CHANGES_MAX:
        entries.append(
            {"kind": "changed", "description": f"{len(listed) - CHANGES_MAX} more: CHANGELOG.md"}
        )
    made = {"artifacthub.io/changes": yaml.safe_dump(entries, sort_keys=False, width=10_000)}
    if image:
        images = [{"name": "tidegate", "image": image, "platforms": ["linux/amd64", "linux/arm64"]}]
        made["artifacthub.io/images"] = yaml.safe_dump(images, sort_keys=False)
    if signed_by:
        named = {"fingerprint": signed_by.fingerprint, "url": signed_by.url}
        made["artifacthub.io/signKey"] = yaml.safe_dump(named)
    return made


def _staged(work: Path, section: Section, image: str | None, signed_by: Key | None) -> Path:
    for name in ("helm", "dashboards"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    staged = work / "helm" / "tidegate"
    described = yaml.safe_load((staged / "Chart.yaml").read_text("utf-8"))
    described["annotations"] |= release_annotations(section, image, signed_by)
    (staged / "Chart.yaml").write_text(yaml.safe_dump(described, sort_keys=False, width=10_000))
    if image:
        values = staged / "values.yaml"
        values.write_text(with_image(values.read_text("utf-8"), image), "utf-8")
        run(sys.executable, work / "helm" / "reference.py")
    return staged


def with_image(values: str, image: str) -> str:
    """values.yaml with this image. Its comments stay: the reference is made from them."""
    found = _IMAGE.fullmatch(image)
    if found is None:
        raise ReleaseError(f"{image} is not of the form registry/name@sha256:<64 digits>")
    head, start, rest = values.partition("\nimage:\n")
    block, end, tail = rest.partition("\n\n")
    block, names = re.subn(r"(?m)^  repository: .*$", f"  repository: {found['name']}", block)
    block, digests = re.subn(r'(?m)^  digest: ""$', f"  digest: {found['digest']}", block)
    if (names, digests) != (1, 1):
        raise ReleaseError("values.yaml: `image` has no `repository` or no empty `digest`")
    return head + start + block + end + tail
