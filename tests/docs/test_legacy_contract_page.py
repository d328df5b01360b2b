"""docs/legacy-contract.md has a row for each behaviour, and each behaviour a test of its name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROUPS = {"connections": 9, "redis_integration": 7, "consumer": 7, "broadcasting": 5}
GROUPS |= {"cleanup": 7, "utility": 2, "singleton": 2}


def test_every_behaviour_has_a_row_and_a_test() -> None:
    rows = re.findall(
        r"^\| `(test_\w+)` \|", (ROOT / "docs/legacy-contract.md").read_text("utf-8"), re.MULTILINE
    )
    tests: list[str] = []
    for group, count in GROUPS.items():
        text = (ROOT / f"tests/legacy_contract/test_{group}.py").read_text("utf-8")
        found = re.findall(r"^async def (test_\w+)\(", text, re.MULTILINE)
        assert len(found) == count, group
        tests += found

    assert len(rows) == 39
    assert rows == tests
