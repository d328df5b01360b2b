"""The page about security names tests, and they are there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]
    named = [re.findall(r"`(tests/[\w/]+\.py)`", row) for row in rows]
    assert len(rows) > 10
    assert all(named), "each row names a test"
    missing = [path for paths in named for path in paths if not (REPOSITORY / path).is_file()]
    assert missing == []


def test_every_scenario_that_the_page_names_is_there() -> None:
    from bench.scenarios import SCENARIOS

    page = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"-s ([\w-]+)", page))
    assert named
    assert named <= {scenario.name for scenario in SCENARIOS}
