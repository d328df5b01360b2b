"""Centrifugo as a subject: which binary is taken, what it says of itself, and what is refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.centrifugo import centrifugo
from bench.cli import app
from bench.errors import NotPossible


def server_that_says(text: str, folder: Path) -> Path:
    """An executable that prints `text` when it is asked for its version."""
    path = folder / "centrifugo"
    path.write_text(f"#!/bin/sh\n[ \"$1\" = version ] && echo '{text}'\n")
    path.chmod(0o755)
    return path


def test_a_binary_is_taken_by_its_path_with_its_version(tmp_path: Path) -> None:
    named = server_that_says("Centrifugo v6.9.1 (Go version: go1.26.3)", tmp_path)

    subject = centrifugo(named)

    assert subject.version == "6.9.1"
    command = subject.command(port=8000, redis="redis://127.0.0.1:1/0")
    assert command[-1] == str(named)
    assert "CENTRIFUGO_HTTP_SERVER_PORT=8000" in command
    assert "CENTRIFUGO_ENGINE_REDIS_ADDRESS=redis://127.0.0.1:1/0" in command


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Centrifugo v5.4.9 (Go version: go1.23)", "5.4.9"),
        ("nginx version: nginx/1.26", "is no Centrifugo"),
        ("", "is no Centrifugo"),
    ],
)
def test_a_binary_that_the_settings_are_not_for_is_refused(
    said: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(NotPossible, match=told):
        centrifugo(server_that_says(said, tmp_path))


def test_a_path_without_a_program_is_refused_with_what_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"

    result = CliRunner().invoke(app, ["--centrifugo-binary", str(missing), "-s", "200x10"])

    assert result.exit_code == 2
    text = " ".join(result.output.split())  # it is as wide as the terminal
    assert "is no executable file" in text
    assert "leave the option out" in text


def test_without_go_a_binary_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bench.centrifugo.CACHE", tmp_path)

    with pytest.raises(NotPossible, match="--centrifugo-binary"):
        centrifugo()
