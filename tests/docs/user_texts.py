"""The texts that users read: pages, boards, alerts, metrics, settings, chart, log events, errors.

Each is yielded with its place, so that a test can name it. Code spans and code blocks of Markdown
are left out: names of settings and metrics are not sentences. So is what is generated from code:
its texts are among those of the code.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tidegate.cli.settings_fields import groups, setting_fields
from tidegate.telemetry.metrics import TABLE

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "tidegate"
_CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
#: From the mark of a generated part to the next section.
_GENERATED = re.compile(r"^<!-- [Mm]ade (?:from|by) .*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


class Text(NamedTuple):
    """A text and where it stands."""

    place: str
    text: str


def pages() -> Iterator[Text]:
    """Markdown, paragraph by paragraph."""
    top = (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "CODE_OF_CONDUCT.md",
        "helm/tidegate/README.md",
    )
    # Not below them: what npm has installed into an example.
    examples = (*(ROOT / "examples").glob("*.md"), *(ROOT / "examples").glob("*/*.md"))
    docs = (ROOT / "docs").rglob("*.md")
    for path in (*(ROOT / name for name in top), *sorted(examples), *sorted(docs)):
        text = _GENERATED.sub(_blank, _CODE_BLOCK.sub(_blank, path.read_text("utf-8")))
        for number, line in enumerate(text.splitlines(), start=1):
            yield Text(f"{path.relative_to(ROOT)}:{number}", re.sub(r"`[^`]*`", "``", line))


def _blank(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")


def boards() -> Iterator[Text]:
    """Titles, descriptions and legends of the boards."""
    for path in sorted((ROOT / "dashboards" / "boards").glob("*.json")):
        for key, value in _strings(json.loads(path.read_text("utf-8"))):
            if key in ("title", "description", "legendFormat", "label"):
                yield Text(path.name, value)


def _strings(node: Any) -> Iterator[tuple[str, str]]:
    children = enumerate(node) if isinstance(node, list) else node.items()
    for key, value in children:
        if isinstance(value, str):
            yield str(key), value
        elif isinstance(value, dict | list):
            yield from _strings(value)


def alerts() -> Iterator[Text]:
    """Summaries and descriptions of the alerts."""
    rules = yaml.safe_load((ROOT / "dashboards/rules/alerts.yaml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            for name in ("summary", "description"):
                yield Text(f"alert {rule['alert']}", rule["annotations"][name])


def metrics() -> Iterator[Text]:
    for row in TABLE:
        yield Text(row.name, row.help)


def settings() -> Iterator[Text]:
    for group, model in groups().items():
        yield Text(group, model.__doc__ or "")
    for field in setting_fields().values():
        yield Text(field.path, f"{field.description} {field.allowed}")


def chart() -> Iterator[Text]:
    """Comments of the values, and what `helm install` prints or refuses."""
    for name in ("values.yaml", "values-production.yaml"):
        block = ""
        for line in (*(CHART / name).read_text("utf-8").splitlines(), ""):
            comment = line.strip()
            if comment.startswith("#"):
                block += " " + comment.removeprefix("#").strip()
            elif block:
                yield Text(name, block)
                block = ""
    yield Text("NOTES.txt", (CHART / "templates/NOTES.txt").read_text("utf-8"))
    for path in sorted((CHART / "templates").rglob("*.tpl")):
        for refusal in re.findall(r'fail "([^"]+)"', path.read_text("utf-8")):
            yield Text(path.name, refusal)


def code() -> Iterator[Text]:
    """Strings of several words that are no docstrings: log events, errors, help, descriptions."""
    for folder in ("service/tidegate", "operator/tidegate_operator"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if not isinstance(node, ast.Constant) or id(node) in docstrings:
                    continue
                if isinstance(node.value, str) and " " in node.value:
                    yield Text(f"{path.relative_to(ROOT)}:{node.lineno}", node.value)


def all_but_code() -> Iterator[Text]:
    for source in (pages, boards, alerts, metrics, settings, chart):
        yield from source()
