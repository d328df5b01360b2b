"""From what was given to valid settings, or to the list of everything that is wrong.

Merging is done per field, because a refusal has to say where the value came from: a start with
three mistakes names all three, one line each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from tidegate.model.errors import SettingsError
from tidegate.model.settings import Group
from tidegate.settings_loading.fields import SettingField

M = TypeVar("M", bound=Group)


@dataclass(frozen=True, slots=True)
class Given:
    """A value for ``path`` as someone wrote it, and where: ``--port``, a variable, a file."""

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
class Loaded(Generic[M]):
    """The effective settings; ``sources`` names where each path's value came from."""

    settings: M
    sources: Mapping[str, str]


def load(
    model: type[M],
    fields: Mapping[str, SettingField],
    given: Iterable[Given],
    problems: list[Problem],
) -> Loaded[M]:
    """Merge and validate as a whole.

    Args:
        given: with known paths; later ones win.
        problems: where more is put while `given` is read.

    Raises:
        SettingsError: with every problem found.
    """
    chosen = {one.path: one for one in given}
    values: dict[str, Any] = {}
    for path, one in chosen.items():
        group, found, name = path.rpartition(".")
        (values.setdefault(group, {}) if found else values)[name] = one.value
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        problems.extend(_problems_of(error, fields, chosen))
        raise SettingsError(tuple(map(str, problems))) from None
    if problems:
        raise SettingsError(tuple(map(str, problems)))
    sources = {path: chosen[path].source if path in chosen else "default" for path in fields}
    return Loaded(settings, sources)


def known(
    given: Iterable[Given], fields: Mapping[str, SettingField], problems: list[Problem]
) -> Iterator[Given]:
    """Pass on what the model knows, note the rest; empty text means "not set" where that may be."""
    for one in given:
        field = fields.get(one.path)
        if field is None:
            problems.append(Problem(one.path, "", unknown(one.path, fields), one.source))
        elif one.value == "" and field.optional:
            yield Given(one.path, None, one.source)
        else:
            yield one


def unknown(name: str, names: Iterable[str], what: str = "setting", *, prefix: str = "") -> str:
    """What to say of an unknown name: the nearest of the known ones, if one is near.

    Args:
        prefix: that all of them share, which would make any two of them look alike.
    """
    bare = {one.removeprefix(prefix): one for one in names}
    near = difflib.get_close_matches(name.removeprefix(prefix), bare, n=1, cutoff=0.6)
    return f"no such {what}" + (f"; did you mean {bare[near[0]]}?" if near else "")


def _problems_of(
    error: ValidationError, fields: Mapping[str, SettingField], chosen: Mapping[str, Given]
) -> Iterator[Problem]:
    # ctx carries exception objects and the input may be a secret: take only what is shown.
    for one in error.errors(include_url=False):
        path = ".".join(str(part) for part in one["loc"][:2])
        if path not in fields:  # a member of a field that is in no group
            path = str(one["loc"][0]) if one["loc"] else ""
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
