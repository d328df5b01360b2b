"""A model of settings seen as a flat list: one ``SettingField`` per ``group.field``, or per field
where the model has no groups.

Owns the words for what a field allows, its variable's name, and how a value is shown (redacted).
Error lines and reference pages are all made from this list, so that they cannot disagree with the
model or with one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidegate.model.settings import Group, RedisUrl, redact_url

_UNSET, _EMPTY = "not set", "(empty)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """One setting. ``allowed`` completes the sentence "must be ..."; ``group`` may be empty."""

    path: str
    group: str
    name: str
    variable: str
    description: str
    allowed: str
    default_text: str
    default_is_value: bool
    optional: bool
    secret: bool
    has_login: bool

    @property
    def default_cell(self) -> str:
        """The default for a table in Markdown."""
        return f"`{self.default_text}`" if self.default_is_value else self.default_text

    def show(self, value: object) -> str:
        """``value`` as text for people, with secrets hidden."""
        if value is None:
            return _UNSET
        if self.secret:
            return "***"
        text = _text(value)
        # Also where no address belongs: a mistaken one may well hold a password.
        return redact_url(text) if self.has_login or "://" in text else text


def fields_of(model: type[Group], prefix: str, group: str = "") -> Mapping[str, SettingField]:
    """All settings of a model by path, in its order; constants are none.

    Args:
        prefix: what the names of variables begin with.
        group: of which these are the fields.
    """
    return dict(_fields(model, prefix, group))


def _fields(model: type[Group], prefix: str, group: str) -> Iterator[tuple[str, SettingField]]:
    properties = model.model_json_schema()["properties"]
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Group):
            yield from _fields(info.annotation, f"{prefix}{name.upper()}__", name)
        elif name in properties:
            field = properties[name]
            any_of = field.get("anyOf", ())
            path = f"{group}.{name}" if group else name
            yield (
                path,
                SettingField(
                    path=path,
                    group=group,
                    name=name,
                    variable=f"{prefix}{name.upper()}",
                    description=info.description or "",
                    allowed=_allowed(field),
                    default_text=_default_text(info, field),
                    default_is_value="default_text" not in field
                    and info.default not in (PydanticUndefined, None, ()),
                    optional=any(s.get("type") == "null" for s in any_of),
                    secret=any(s.get("format") == "password" for s in any_of),
                    has_login=RedisUrl in (info.annotation, *get_args(info.annotation)),
                ),
            )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(str(v) for v in value) or _EMPTY
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _numbers(schema: Mapping[str, Any], noun: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None or high is None:
        return noun
    return f"{noun} from {_text(low)} to {_text(high)}"


def _allowed(schema: Mapping[str, Any]) -> str:
    """JSON schema to words; covers exactly the kinds that the settings use."""
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
        case _ if "minLength" in schema and "maxLength" in schema:
            return f"text of {schema['minLength']} to {schema['maxLength']} characters"
        case _:
            return "text"


def _default_text(info: FieldInfo, field: Mapping[str, Any]) -> str:
    if "default_text" in field:
        return str(field["default_text"])
    if info.default is PydanticUndefined or info.default is None:
        return _UNSET
    return _text(info.default)
