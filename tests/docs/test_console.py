"""Every command of the documentation is run by a test, or says why it is not."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from tests.docs.console import REASONS, ROOT, blocks, fences
from tests.docs.test_tours import TOURS
from tidegate.cli.main import app
from tidegate_operator.cli.main import app as operator_app

_PROGRAM = re.compile(
    r"^(\$ )?(\S+=\S+ )*(\.venv/bin/\S+|tidegate(-operator)?|make [a-z]|curl|kubectl|helm|docker|"
    r"redis-cli|pip|npm|kind|openssl)\b(?!:)"
)


def test_commands_are_in_blocks_of_their_kind() -> None:
    """`make` in CONTRIBUTING.md is a list of targets, in two columns."""
    others = [
        f"{fence.page}:{fence.line}"
        for fence in fences()
        if fence.kind in ("", "sh", "bash", "shell")
        and any(map(_PROGRAM.match, fence.text.splitlines()))
    ]
    assert others == [other for other in others if other.startswith("CONTRIBUTING.md:")]
    assert len(others) <= 1


def test_each_page_with_commands_has_a_tour() -> None:
    pages = {block.page for block in blocks() if block.reason is None}
    assert pages == TOURS.keys()
    assert sum(len(block.commands) for block in blocks() if block.reason is None) > 15


@pytest.mark.parametrize("block", [b for b in blocks() if b.reason is not None], ids=str)
def test_what_is_not_run_has_a_reason_that_it_uses(block: Any) -> None:
    programs = REASONS[block.reason]
    assert any(program in command for command in block.commands for program in programs)


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    known = set(re.findall(r"^([a-z][a-z-]*)(?= ?[a-z-]*:)", makefile, re.MULTILINE))
    known |= set(re.findall(r"^([a-z][a-z-]+) ", makefile, re.MULTILINE))
    texts = [command for block in blocks() for command in block.commands]
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    texts += re.findall(r"^make [a-z-]+", contributing, re.MULTILINE)
    wanted = {found[1] for text in texts if (found := re.match(r"make ([a-z-]+)", text))}
    assert {"run", "test"} <= wanted
    assert wanted <= known


def commands_that_are_not_run() -> list[str]:
    """Ours, in marked blocks and in what the chart prints."""
    texts = [c for block in blocks() if block.reason is not None for c in block.commands]
    notes = (ROOT / "helm/tidegate/templates/NOTES.txt").read_text("utf-8")
    texts += re.findall(r"(?<=-- )tidegate [^\n)]+", notes)
    return [part.strip() for text in texts for part in re.split(r"\||&&", text)]


def understood(program: typer.Typer, arguments: list[str]) -> None:
    """Parsed as the program would; raises for what it does not know."""
    command: Any = typer.main.get_command(program)
    context = command.make_context(program.info.name, arguments)
    while hasattr(command, "resolve_command") and (
        rest := [*context._protected_args, *context.args]
    ):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def test_commands_of_ours_that_are_not_run_are_understood() -> None:
    programs = {"tidegate": app, "tidegate-operator": operator_app}
    ours = [c for c in commands_that_are_not_run() if c.split()[0] in programs]
    assert any("doctor" in command for command in ours)
    assert any("token" in command for command in ours)
    for command in ours:
        name, *arguments = shlex.split(command)
        understood(programs[name], arguments)


def test_an_unknown_option_is_not_understood() -> None:
    with pytest.raises(Exception, match="No such option"):
        understood(app, ["doctor", "--readis", "x"])
