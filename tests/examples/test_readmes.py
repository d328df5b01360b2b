"""What the READMEs of the examples say, as far as the tests that run them do not show it."""

from __future__ import annotations

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.examples.example import ROOT
from tidegate.cli.run import run

EXAMPLES = ROOT / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
#: Short enough to be read before one starts.
LINES_MAX = 16


def commands(name: str) -> str:
    (block,) = re.findall(r"^```console\n(.*?)^```$", _text(name), re.DOTALL | re.MULTILINE)
    return str(block)


def _text(name: str) -> str:
    return (EXAMPLES / name / "README.md").read_text("utf-8")


def test_each_example_has_a_readme_a_test_and_a_row() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(NAMES)
    table = (EXAMPLES / "README.md").read_text("utf-8")
    for name in NAMES:
        assert (Path(__file__).parent / f"test_{name}.py").exists()
        assert f"| [`{name}`]({name}/README.md) |" in table


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_is_short_and_names_what_is_there(name: str) -> None:
    text = _text(name)
    assert len(text.splitlines()) <= LINES_MAX
    for module in re.findall(r"python -m (\S+)", commands(name)):
        assert find_spec(module) is not None, module
    for path in re.findall(r"\bexamples/[\w./]+", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (EXAMPLES / name / link).exists(), link
    for file in re.findall(r"`(\w+\.(?:py|mjs|html|sh))`", text):
        assert (EXAMPLES / name / file).exists(), file


def test_ports_are_those_of_the_demo() -> None:
    defaults = inspect.signature(run).parameters
    texts = [_text(name) for name in NAMES if "tidegate run" in commands(name)]
    assert len(texts) == 2
    for text in texts:
        assert f"redis://127.0.0.1:{defaults['redis_port'].default} " in text
        for port in re.findall(r"ws://127\.0\.0\.1:(\d+)", text):
            assert int(port) == defaults["port"].default
