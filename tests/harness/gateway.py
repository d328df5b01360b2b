"""The command `tidegate` with some of its constants changed, for replicas that are processes:

    python -m tests.harness.gateway '{"topic.linger_s": 1}' serve --auth none

What is no setting cannot be set from outside, and a test cannot wait for what is sized for people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from tidegate.cli.main import app
from tidegate.cli.settings_fields import groups, setting_fields
from tidegate.model.settings import Settings


def arguments(settings: Mapping[str, object]) -> list[str]:
    """Of Python: the gateway with these settings and constants, by `group.field`; a command of it
    and more flags may follow, before the settings' own.
    """
    constants = {path: value for path, value in settings.items() if path not in setting_fields()}
    return ["-m", __name__, json.dumps(constants)]


def flags(settings: Mapping[str, object]) -> list[str]:
    """Of `tidegate serve`: those of them that are settings."""
    known = [f"{path}={value}" for path, value in settings.items() if path in setting_fields()]
    return [part for one in known for part in ("--set", one)]


def _change(constants: Mapping[str, object]) -> None:
    for path, value in constants.items():
        group, _, name = path.partition(".")
        model = groups()[group]
        model.model_fields[name].default = value
        model.model_rebuild(force=True)
    Settings.model_rebuild(force=True)


if __name__ == "__main__":
    _change(json.loads(sys.argv.pop(1)))
    app(prog_name="tidegate")
