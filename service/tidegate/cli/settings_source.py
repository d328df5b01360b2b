"""Where settings come from: flag, then ``TIDEGATE_`` variable, then YAML file, then default.

Owns the merging, the record of which source each value came from, and the list of everything
that is wrong: a start with three mistakes names all three, one line each. pydantic-settings
reads variables and YAML; merging is done here, per field, because a refusal has to say where
the value came from.

Invariant: nothing unknown is ignored. A misspelt variable or key is an error with a suggestion,
except for the variables that Kubernetes makes for a Service named ``tidegate``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from tidegate.cli.settings_fields import VARIABLE_PREFIX, setting_fields
from tidegate.model.errors import SettingsError
from tidegate.model.settings import Settings

CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"

# A Service named `tidegate` or `tidegate-admin` gives every pod of its namespace
# TIDEGATE_SERVICE_HOST, TIDEGATE_PORT_8080_TCP_ADDR and the like. They are not ours to refuse.
_SERVICE_LINK = re.compile(
    r"^[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)$"
)
_SERVICE_LINK_URL = re.compile(r"^(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """A value for ``path`` as somebody wrote it, and where: ``--port``, a variable, a file."""

    path: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting, ready to be shown: ``value`` is redacted or empty."""

    path: str
    value: str
    text: str
    source: str

    def __str__(self) -> str:
        shown = f"{self.path} = {self.value}" if self.value else self.path
        return f"{shown}: {self.text} (from {self.source})"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings; ``sources`` names where each path's value came from."""

    settings: Settings
    sources: Mapping[str, str]


class _Tree(Settings, BaseSettings):
    """The tree in the form that pydantic-settings' sources read; never instantiated."""

    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX,
        env_nested_delimiter="__",
        # Lists are split by the model, which also takes `a,b`.
        enable_decoding=False,
        frozen=True,
        extra="forbid",
    )


def load_settings(
    flags: Iterable[Given] = (),
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Merge, validate as a whole, or raise ``SettingsError`` with every problem found.

    ``environ`` replaces the process environment, for tests.
    """
    env = os.environ if environ is None else environ
    problems: list[Problem] = []
    if config is None and env.get(CONFIG_VARIABLE):
        config = Path(env[CONFIG_VARIABLE])

    chosen: dict[str, Given] = {}
    # Later ones win.
    for given in (
        *(_from_file(config, problems) if config is not None else ()),
        *_from_environment(env, problems),
        *_known(flags, problems),
    ):
        chosen[given.path] = given

    tree: dict[str, dict[str, Any]] = {}
    for path, given in chosen.items():
        group, _, name = path.partition(".")
        tree.setdefault(group, {})[name] = given.value
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems.extend(_problems_of(error, chosen))
        raise SettingsError(tuple(map(str, problems))) from None
    if problems:
        raise SettingsError(tuple(map(str, problems)))
    sources = {
        path: chosen[path].source if path in chosen else "default" for path in setting_fields()
    }
    return Loaded(settings, sources)


def parse_assignment(text: str) -> Given:
    """``group.field=value`` of a ``--set`` flag."""
    path, found, value = text.partition("=")
    if not found:
        problem = Problem(path, "", "must be written as group.field=value", "--set")
        raise SettingsError((str(problem),))
    return Given(path.strip(), value, "--set")


def _known(given: Iterable[Given], problems: list[Problem]) -> Iterable[Given]:
    """Pass on what the tree knows, note the rest; empty text means "not set" where that may be."""
    fields = setting_fields()
    for one in given:
        field = fields.get(one.path)
        if field is None:
            problems.append(Problem(one.path, "", _unknown(one.path, fields), one.source))
        elif one.value == "" and field.optional:
            yield Given(one.path, None, one.source)
        else:
            yield one


def _unknown(name: str, known: Iterable[str], what: str = "setting") -> str:
    # The prefix that all variables share would make any two of them look alike.
    bare = {one.removeprefix(VARIABLE_PREFIX): one for one in known}
    near = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX), bare, n=1, cutoff=0.6)
    return f"no such {what}" + (f"; did you mean {bare[near[0]]}?" if near else "")


def _from_environment(env: Mapping[str, str], problems: list[Problem]) -> Iterable[Given]:
    variables = {field.variable: path for path, field in setting_fields().items()}
    for name in sorted(env):
        if not name.upper().startswith(VARIABLE_PREFIX) or name.upper() in variables:
            continue
        if name == CONFIG_VARIABLE or _is_service_link(name, env[name]):
            continue
        text = _unknown(name.upper(), [*variables, CONFIG_VARIABLE], "variable")
        problems.append(Problem(name, "", text, "the environment"))

    # The source lower-cases names and builds {"server": {"port": "8080"}}; all values are text.
    source = EnvSettingsSource(_Tree)
    source.env_vars = {
        name.lower(): value for name, value in env.items() if name.upper() in variables
    }
    for group, values in source().items():
        for name, value in values.items():
            path = f"{group}.{name}"
            yield from _known([Given(path, value, setting_fields()[path].variable)], problems)


def _is_service_link(name: str, value: str) -> bool:
    if "__" in name:
        return False
    return _SERVICE_LINK.match(name) is not None or (
        name.endswith("_PORT") and _SERVICE_LINK_URL.match(value) is not None
    )


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
            problems.append(Problem(str(group), "", _unknown(str(group), groups, "group"), source))
        elif isinstance(values, Mapping):
            given.extend(Given(f"{group}.{name}", value, source) for name, value in values.items())
        elif values is not None:
            problems.append(Problem(group, "", "must be a mapping of settings", source))
    return list(_known(given, problems))


def _problems_of(error: ValidationError, chosen: Mapping[str, Given]) -> Iterable[Problem]:
    fields = setting_fields()
    # ctx carries exception objects and the input may be a secret: take only what is shown.
    for one in error.errors(include_url=False):
        path = ".".join(str(part) for part in one["loc"][:2])
        value: object = one["input"]
        text: str | None = None
        if one["type"] == "rule_broken":
            path, value, text = (one["ctx"][key] for key in ("path", "value", "text"))
        elif one["type"] == "value_error":
            text = one["msg"].removeprefix("Value error, ")
        field = fields[path]
        # A member of a list is at fault: show the list as it was written.
        given = chosen.get(path)
        if given is not None and one["type"] != "rule_broken":
            value = given.value
        yield Problem(
            path,
            field.show(value),
            text or f"must be {field.allowed}",
            given.source if given is not None else "default",
        )
