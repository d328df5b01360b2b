"""Which tests go to one worker (`--dist loadgroup`): what uses a part that starts slowly.

xdist hands a test's group on as a suffix of its id, which pytest 9.2 ignores without a word, and it
looks before a conftest can mark anything. So the workers write down what they have marked, and the
scheduler reads it. A group is one unit of work; the largest are begun first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]


def group_of(item: pytest.Item) -> str | None:
    """The mark `xdist_group("name")` of a test, its own before its module's."""
    mark = item.get_closest_marker("xdist_group")
    return None if mark is None else str(mark.args[0])


def write_down(items: Iterable[pytest.Item], file: Path) -> None:
    """Every worker writes the same."""
    groups = {item.nodeid: group for item in items if (group := group_of(item)) is not None}
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps(groups))
    new.replace(file)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """One test at a time, but each group as a whole."""

    def __init__(self, config: pytest.Config, log: Any, file: Path) -> None:
        super().__init__(config, log)
        self._file = file
        self._groups: dict[str, str] | None = None

    def _split_scope(self, nodeid: str) -> str:
        if self._groups is None:  # all workers have collected by now
            self._groups = json.loads(self._file.read_text())
        return self._groups.get(nodeid, nodeid)
