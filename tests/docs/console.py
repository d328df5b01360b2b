"""The commands of the documentation: what is in blocks of the kind `console`, page by page.

In such a block the lines after `$ ` are commands and the others what they print; without any `$ `
all lines are commands. A line that ends with a backslash goes on in the next, and `#` begins a
comment. A block that cannot be run has one visible line above it, with one of `REASONS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: Why a block is not run, each with the programs of which it must use one.
REASONS = {
    "a cluster": ("kubectl", "helm", "make cluster-up"),
    "a container engine": ("docker",),
    "a published package": ("pip install",),
    "a published release": ("cosign verify",),
    "many minutes of an idle machine": ("make bench",),
}
_FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"^\*Not run by the tests: it needs (?P<reason>[^.\n]+)\.\*\n\n\Z", re.MULTILINE)
_COMMENT = re.compile(r"\s+# .*$")


class Block(NamedTuple):
    """One block of commands. `reason`: why it is not run; None when it is."""

    page: str
    line: int
    commands: tuple[str, ...]
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Fence(NamedTuple):
    """Any fenced block, and the text in front of it."""

    page: str
    line: int
    kind: str
    text: str
    before: str


def pages() -> Iterator[Path]:
    """All pages with commands for users and contributors."""
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))
    yield ROOT / "bench" / "README.md"


def fences() -> Iterator[Fence]:
    for path in pages():
        page = path.read_text("utf-8")
        for match in _FENCE.finditer(page):
            line = page.count("\n", 0, match.start()) + 1
            name = str(path.relative_to(ROOT))
            yield Fence(name, line, match["kind"], match["text"], page[: match.start()])


def blocks(page: str | None = None) -> list[Block]:
    """Of one page, or of all."""
    found = []
    for fence in fences():
        if fence.kind == "console" and page in (None, fence.page):
            mark = _MARK.search(fence.before[-200:])
            reason = None if mark is None else mark["reason"]
            commands = tuple(_commands(fence.text))
            found.append(Block(fence.page, fence.line, commands, reason))
    return found


def _commands(text: str) -> Iterator[str]:
    lines = text.replace("\\\n", " ").splitlines()
    prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in prompted or lines:
        command = _COMMENT.sub("", line).strip()
        if command:
            yield re.sub(r" {2,}", " ", command)


class Tour:
    """The blocks of a page that a test runs; each command must be taken once."""

    def __init__(self, page: str) -> None:
        self.page = page
        self._left = [
            one for block in blocks(page) if block.reason is None for one in block.commands
        ]

    def take(self, beginning: str) -> str:
        """The next command, as it stands; the test knows how it begins."""
        assert self._left, f"{self.page} has no more commands"
        command = self._left.pop(0)
        assert command.startswith(beginning), command
        return command

    def finish(self) -> None:
        """All of them were taken."""
        assert self._left == []
