"""The form of the workflows under .github: what actionlint does not look at.

Every action is named by the full digest of a commit with its version in a comment, a workflow has
no permission of its own, a job has only those that it lists and a limit of time, and a checkout
leaves no credentials behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from release.command import ROOT

FOLDER = ROOT / ".github" / "workflows"
_USES = re.compile(r"^\s*(?:- )?uses: (?P<action>\S+)(?P<comment>.*)$", re.MULTILINE)
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
_COMMENT = re.compile(r" # v\d+\.\d+\.\d+")
_LIMIT_MINUTES = 180


def faults(folder: Path = FOLDER) -> list[str]:
    """One line for each, with its file."""
    paths = sorted(folder.glob("*.y*ml"))
    return [f"{path.name}: {fault}" for path in paths for fault in _of(path.read_text("utf-8"))]


def _of(text: str) -> Iterator[str]:
    for found in _USES.finditer(text):
        action = found["action"]
        if action.startswith("./"):
            continue
        if not _PINNED.fullmatch(action):
            yield f"{action} is not pinned by the digest of a commit (40 hexadecimal digits)"
        elif not _COMMENT.fullmatch(found["comment"].rstrip()):
            yield f"{action} does not name its version in a comment (`# v1.2.3`)"
    try:
        workflow: dict[str, Any] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        yield f"is not YAML: {error}"
        return
    if workflow.get("permissions") != {}:
        yield "the workflow has permissions of its own (`permissions: {}`, and list those of jobs)"
    for name, job in workflow["jobs"].items():
        yield from (f"job {name}: {fault}" for fault in _of_job(job))


def _of_job(job: dict[str, Any]) -> Iterator[str]:
    if not isinstance(job.get("permissions"), dict):
        yield "lists no permissions (`permissions: {}` for none)"
    if "uses" in job:
        return
    if not 0 < job.get("timeout-minutes", 0) <= _LIMIT_MINUTES:
        yield f"has no `timeout-minutes` of at most {_LIMIT_MINUTES}"
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            kept = step.get("with", {}).get("persist-credentials", True)
            if kept is not False:
                yield "its checkout keeps credentials: `persist-credentials: false`"
        # An expression in a script is code that an event of anyone's may have written.
        if "${{" in step.get("run", ""):
            yield f"step {step.get('name', '')!r} has an expression in its script: use `env`"
