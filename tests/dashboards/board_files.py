"""The boards as Grafana will read them: the committed JSON, not the source that makes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.dashboards.rules_files import BOARDS

OPERATOR = "tidegate-operator"


class Asked(NamedTuple):
    """A query and where it stands: the uid of its board, and a name on it."""

    board: str
    name: str
    expr: str

    @property
    def where(self) -> str:
        return f"{self.board} / {self.name}"


def boards() -> list[dict[str, Any]]:
    """All boards."""
    return [json.loads(path.read_text()) for path in sorted(BOARDS.glob("*.json"))]


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a board that show something; rows only divide."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Asked]:
    """Every query of every panel."""
    for board in boards():
        for panel in panels(board):
            for target in panel["targets"]:
                yield Asked(board["uid"], f"{panel['title']} {target['refId']}", target["expr"])


def marks() -> Iterator[Asked]:
    """The queries of annotations, which may find nothing."""
    for board in boards():
        for annotation in board["annotations"]["list"]:
            yield Asked(board["uid"], annotation["name"], annotation["expr"])


def variables() -> Iterator[Asked]:
    """The queries that fill variables: `label_values(metric, label)`."""
    for board in boards():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield Asked(board["uid"], f"${variable['name']}", variable["query"])
