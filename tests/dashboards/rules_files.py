"""The rule files, read as YAML, and where the things are that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards" / "rules"
BOARDS = ROOT / "dashboards" / "boards"
RULE_TESTS = Path(__file__).parent / "rules"


def rule_files() -> list[Path]:
    """All of them."""
    return sorted(RULES.glob("*.yaml"))


def rules() -> list[dict[str, Any]]:
    """All rules, recording and alerting."""
    documents = [yaml.safe_load(path.read_text()) for path in rule_files()]
    return [
        rule for document in documents for group in document["groups"] for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    """The alerting ones; a name may come twice, with different severities."""
    return [rule for rule in rules() if "alert" in rule]
