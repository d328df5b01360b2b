"""The settings tree seen as a flat list: one ``SettingField`` per ``group.field``.

Owns the words for what a field allows, its variable's name, and how a value is shown (redacted).
Error lines, ``tidegate settings`` and the reference page are all made from this list, so that
they cannot disagree with the model or with one another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidegate.model.settings import Group, Settings, redact_url

VARIABLE_PREFIX = "TIDEGATE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """One leaf of the tree. ``allowed`` completes the sentence "must be ..."."""

    path: str
    group: str
    name: str
    description: str
    allowed: str
    default_text: str
    optional: bool
    secret: bool

    @property
    def variable(self) -> str:
        return f"{VARIABLE_PREFIX}{self.group.upper()}__{self.name.upper()}"

    def show(self, value: object) -> str:
        """``value`` as text for people, with secrets hidden."""
        if value is None:
            return "not set"
        if self.secret:
            return "***"
        if self.path == "redis.url":
            return redact_url(str(value))
        return _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(str(v) for v in value) or "(empty)"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _numbers(schema: Mapping[str, Any], noun: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None or high is None:
        return noun
    return f"{noun} from {_text(low)} to {_text(high)}"


def _allowed(schema: Mapping[str, Any]) -> str:
    """JSON schema to words; covers exactly the kinds that the settings tree uses."""
    if "allowed" in schema:
        return str(schema["allowed"])
    if "anyOf" in schema:
        return " or ".join(_allowed(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    match schema.get("type"):
        case "integer":
            return _numbers(schema, "a whole number")
        case "number":
            return _numbers(schema, "a number")
        case "boolean":
            return "true or false"
        case "array":
            return f"a list of at most {schema.get('maxItems')}, each {_allowed(schema['items'])}"
        case _ if schema.get("format") == "path":
            return "a path"
        case _:
            return "text"


def _default_text(info: FieldInfo, field: Mapping[str, Any]) -> str:
    if "default_text" in field:
        return str(field["default_text"])
    if info.default is PydanticUndefined or info.default is None:
        return "not set"
    return _text(info.default)


@cache
def setting_fields() -> Mapping[str, SettingField]:
    """All leaves by path, in the tree's order."""
    schema = Settings.model_json_schema()
    fields: dict[str, SettingField] = {}
    for group, group_info in Settings.model_fields.items():
        model = group_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):  # pragma: no cover
            raise TypeError(f"settings.{group} is no group")
        properties = schema["$defs"][model.__name__]["properties"]
        for name, info in model.model_fields.items():
            if name not in properties:
                continue  # a constant
            field = properties[name]
            any_of = field.get("anyOf", ())
            fields[f"{group}.{name}"] = SettingField(
                path=f"{group}.{name}",
                group=group,
                name=name,
                description=info.description or "",
                allowed=_allowed(field),
                default_text=_default_text(info, field),
                optional=any(s.get("type") == "null" for s in any_of),
                secret=any(s.get("format") == "password" for s in any_of),
            )
    return fields


def groups() -> Mapping[str, type[Group]]:
    """Group name to its model, in the tree's order."""
    return {
        name: info.annotation
        for name, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, Group)
    }


def value_at(settings: Settings, path: str) -> object:
    group, _, name = path.partition(".")
    value: object = getattr(getattr(settings, group), name)
    return value


def plain_value(settings: Settings, path: str) -> object:
    """The value as JSON knows it, redacted where it is secret."""
    group, _, name = path.partition(".")
    dumped: dict[str, object] = json.loads(getattr(settings, group).model_dump_json())
    value = dumped[name]
    return "***" if setting_fields()[path].secret and value is not None else value
