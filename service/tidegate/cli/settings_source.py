"""Where the gateway's settings come from: flag, then ``TIDEGATE_`` variable, then YAML file, then
default.

Owns the order of the sources and the reading of the file; what is known, merging and problems are
those of ``tidegate.settings_loading``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import BaseSettings, SettingsConfigDict, YamlConfigSettingsSource

from tidegate.cli.settings_fields import VARIABLE_PREFIX, setting_fields
from tidegate.model.errors import SettingsError
from tidegate.model.settings import Settings
from tidegate.settings_loading.environment import from_environment
from tidegate.settings_loading.loading import Given, Loaded, Problem, known, load, unknown

CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"
#: A viewer's token, which is no setting: `watch`, `cancel`, `doctor` and `token check` read it.
TOKEN_VARIABLE = f"{VARIABLE_PREFIX}TOKEN"


class _Tree(Settings, BaseSettings):
    """The tree in the form that pydantic-settings' sources read; never instantiated."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")


def load_settings(
    flags: Iterable[Given] = (),
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded[Settings]:
    """Merge, validate as a whole, or raise ``SettingsError`` with every problem found.

    ``environ`` replaces the process environment, for tests.
    """
    env = os.environ if environ is None else environ
    fields = setting_fields()
    problems: list[Problem] = []
    if config is None and env.get(CONFIG_VARIABLE):
        config = Path(env[CONFIG_VARIABLE])

    def given() -> Iterator[Given]:
        if config is not None:
            yield from known(_from_file(config, problems), fields, problems)
        yield from from_environment(
            env, fields, problems, prefix=VARIABLE_PREFIX, others=(CONFIG_VARIABLE, TOKEN_VARIABLE)
        )
        yield from known(flags, fields, problems)

    return load(Settings, fields, given(), problems)


def parse_assignment(text: str) -> Given:
    """``group.field=value`` of a ``--set`` flag."""
    path, found, value = text.partition("=")
    if not found:
        problem = Problem(path, "", "must be written as group.field=value", "--set")
        raise SettingsError((str(problem),))
    return Given(path.strip(), value, "--set")


def _read_yaml(path: Path) -> Mapping[str, Any]:
    """The file's mapping; ``ValueError`` with words for the user."""
    if not path.is_file():
        raise ValueError("no such file")
    try:
        return YamlConfigSettingsSource(_Tree, yaml_file=path).yaml_data
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"is no valid YAML: {error.problem}{line}") from None
    except yaml.YAMLError:
        raise ValueError("is no valid YAML") from None
    except (TypeError, ValueError):
        raise ValueError("must be a mapping of groups, such as `server:`") from None


def _from_file(path: Path, problems: list[Problem]) -> Iterable[Given]:
    source = f"file {path}"
    try:
        data = _read_yaml(path)
    except ValueError as error:
        problems.append(Problem(str(path), "", str(error), "--config"))
        return []

    groups = list(Settings.model_fields)
    given: list[Given] = []
    for group, values in data.items():
        if group not in groups:
            problems.append(Problem(str(group), "", unknown(str(group), groups, "group"), source))
        elif isinstance(values, Mapping):
            given.extend(Given(f"{group}.{name}", value, source) for name, value in values.items())
        elif values is not None:
            problems.append(Problem(group, "", "must be a mapping of settings", source))
    return given
