"""The gateway's settings as a flat list, and their values.

Error lines, ``tidegate settings`` and the reference page are all made from this list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from tidegate.model.settings import Group, Settings
from tidegate.settings_loading.fields import SettingField, fields_of

VARIABLE_PREFIX = "TIDEGATE_"


@cache
def setting_fields() -> Mapping[str, SettingField]:
    """All leaves by path, in the tree's order."""
    return fields_of(Settings, VARIABLE_PREFIX)


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
