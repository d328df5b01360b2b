"""Three results of an audit, and that not having looked is never the good one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from release import audit
from release.audit import Audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNFIXED = {"name": "c", "version": "3", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
SKIPPED = {"name": "d", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "required", "code", "last"),
    [
        ([CLEAN], True, 0, "1 packages looked up, 0 known vulnerabilities"),
        ([CLEAN, BAD], False, 1, "2 packages looked up, 1 known vulnerabilities"),
        ([CLEAN, SKIPPED], False, 0, "1 packages looked up, 0 known vulnerabilities"),
        ([CLEAN, SKIPPED], True, 1, "1 packages looked up, 0 known vulnerabilities"),
        ([SKIPPED], False, 0, "make audit: nothing was looked up"),
        ([SKIPPED], True, 1, "make audit: nothing was looked up"),
    ],
)
def test_result(packages: list[Any], required: bool, code: int, last: str) -> None:
    found, lines = audit.result(audit.read({"dependencies": packages}), required=required)
    assert found == code
    assert lines[-1].startswith(last)


def test_a_vulnerability_is_named_with_what_fixes_it() -> None:
    found = audit.read({"dependencies": [BAD, UNFIXED]})
    assert found.vulnerable == (
        "b 2: PYSEC-1, fixed by 2.1",
        "c 3: PYSEC-2, fixed by no release yet",
    )


@pytest.mark.parametrize(
    ("script", "unknown"),
    [
        ("echo 'no connection' >&2; exit 1", "no connection"),
        ("exit 1", "pip-audit said nothing"),
        ("echo '{}'; echo 'odd' >&2", "odd"),
        ("echo '[]'; echo 'odd' >&2", "odd"),
    ],
)
def test_a_program_that_fails_has_looked_up_nothing(
    tmp_path: Path, script: str, unknown: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(program, 0o755)  # noqa: PTH101
    assert audit.look(program) == Audit(0, (), (unknown,))


def test_a_program_that_is_missing_has_looked_up_nothing(tmp_path: Path) -> None:
    found = audit.look(tmp_path / "none")
    assert found.looked_up == 0
    assert "No such file" in found.unknown[0]
