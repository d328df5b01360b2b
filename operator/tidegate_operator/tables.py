"""The tables of ``docs/operator-running.md`` that are made from code: settings and permissions."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate_operator.kube.permissions import PERMISSIONS
from tidegate_operator.settings import operator_fields


def settings_table() -> str:
    """All settings of the process, one row each."""
    return "\n".join(_settings())


def permissions_table() -> str:
    """What the Role must allow, one row for each kind."""
    return "\n".join(_permissions())


def _settings() -> Iterator[str]:
    yield "| variable | default | description |"
    yield "|---|---|---|"
    for field in operator_fields().values():
        yield f"| `{field.variable}` | {field.default_cell} | {field.description} |"


def _permissions() -> Iterator[str]:
    yield "| API group | resource | verbs | only on | needed by | for |"
    yield "|---|---|---|---|---|---|"
    for one in PERMISSIONS:
        group = f"`{one.group}`" if one.group else "core"
        when = one.when or "always"
        verbs = ", ".join(one.verbs)
        yield f"| {group} | `{one.resource}` | {verbs} | {one.only} | {when} | {one.why} |"
