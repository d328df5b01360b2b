"""What pages for help quote exists: settings, metrics, log events, reasons, checks, close codes.

Each code span of these pages must be the name of a setting or a metric, a text of the source (a log
event, a reason, a check of `tidegate doctor`, a member of a frame), the beginning of a command, or
one of the few names that belong to others.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.docs.console import ROOT
from tidegate.cli.main import app
from tidegate.cli.settings_fields import groups, setting_fields
from tidegate.model import close_codes
from tidegate.telemetry.metrics import TABLE

PAGES = ("troubleshooting.md", "faq.md", "sizing.md", "glossary.md", "comparison.md")
#: Of Redis, of browsers, of the chart, of the operator and of other projects.
FOREIGN = {
    *("CLIENT TRACKING", "data.status", "EXPIRE", "MAXLEN", "XADD", "maxmemory-policy noeviction"),
    *("min-replicas-to-write", "redis-cli XINFO STREAM operation-progress:42"),
    *("WebSocket", "EventSource", "fetch", "event.code", "access_token.<jwt>"),
    *("scaling.min", "scaling.max", "scaling.connectionsPerPod", "scaling.deliveriesPerPod"),
    *("gateway.resources", "spec.streams", "SECURITY.md"),
    *("recovered", "recovered: false", "group_send", "earliest"),
    *("1x2000", "100x10", "200x10", "1000x1", "service/tidegate/cli/size_figures.py"),
}
_SPAN = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def spans(text: str) -> list[str]:
    return _SPAN.findall(_FENCE.sub("", text))


@cache
def texts_of_the_source() -> frozenset[str]:
    """Strings, names of keywords and attributes: also of parts of f-strings."""

    def of(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                yield from re.findall(r"\w+", node.value.decode("latin-1"))
            elif isinstance(node, ast.arg | ast.keyword) and node.arg:
                yield node.arg
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id

    files = (ROOT / "service" / "tidegate").rglob("*.py")
    return frozenset(text for file in files for text in of(ast.parse(file.read_text("utf-8"))))


def commands() -> set[str]:
    names = {one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands}
    return {*names, *(one.name or "" for one in app.registered_groups)}


def options_of(command: str) -> set[str]:
    import typer

    group = typer.main.get_command(app)
    (found,) = (one for name, one in group.commands.items() if name == command)  # type: ignore[attr-defined]
    return {"--help", *(text for parameter in found.params for text in parameter.opts)}


def unknown(text: str) -> str | None:
    """Why this span names nothing; None if it does."""
    metrics = {row.name for row in TABLE}
    if text in FOREIGN or text in texts_of_the_source():
        return None
    if text.startswith("tidegate_"):
        return None if text in metrics else "no such metric"
    head, _, rest = text.partition(".")
    if head in groups() and rest:
        setting = text.partition(" = ")[0]
        return None if setting in setting_fields() else "no such setting"
    if text.startswith("tidegate "):
        command = text.split()[1]
        if command.replace("-", "_") not in {one.replace("-", "_") for one in commands()}:
            return "no such command"
        wrong = set(re.findall(r"--[a-z-]+", text)) - options_of(command)
        return f"no such option: {wrong}" if wrong else None
    if text.startswith("--"):
        return None if text in options_of("size") else "no option of tidegate size"
    if text.startswith(("/", "python -m bench", "tidegate-operator ")):
        return None
    return "neither a setting, a metric, nor a text of the source"


@pytest.mark.parametrize("name", PAGES)
def test_every_quoted_name_exists(name: str) -> None:
    found = spans(page(name))
    assert len(found) > 2
    assert {text: why for text in found if (why := unknown(text)) is not None} == {}


def test_close_codes_are_those_of_the_table() -> None:
    known = {code.code for code in close_codes.CLOSE_CODES.values()} | {101, 503}
    for name in ("troubleshooting.md", "faq.md"):
        rows = re.findall(r"^\| (\d{3,4})\b", page(name), re.MULTILINE)
        named = re.findall(r"\b(?:closed with|with) (\d{4})\b", page(name))
        assert {int(code) for code in (*rows, *named)} <= known, name


def test_what_does_not_exist_is_found() -> None:
    for text in (
        "redis.key_prefx",
        "tidegate_redis_conected",
        "Redis connection is lost",
        "tidegate doctr --url",
        "tidegate doctor --urls",
        "--viewer",
        "no_token",
    ):
        assert unknown(text) is not None, text


OWN = {
    "Centrifugo": "https://centrifugal.dev/docs/",
    "Mercure": "https://mercure.rocks/docs/",
    "AnyCable": "https://docs.anycable.io/",
    "Socket.IO": "https://socket.io/docs/v4/",
    "Channels": "https://channels.readthedocs.io/en/stable/",
}


def test_each_statement_about_another_project_has_its_source() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", page("comparison.md"), re.MULTILINE)
    assert [name for name, _ in rows] == ["Tidegate", *OWN] * 3
    for name, cells in rows:
        if name == "Tidegate":
            continue
        for cell in cells.split(" | "):
            links = re.findall(r"\]\((\S+)\)", cell)
            assert links, f"{name}: {cell}"
            assert all(link.startswith(OWN[name]) for link in links), f"{name}: {cell}"
