"""The reference page of all settings, made from the tree; ``docs/settings.md`` is its output."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.cli.settings_fields import groups, setting_fields
from tidegate.settings_loading.fields import SettingField

_HEAD = """\
<!-- Made by `tidegate settings --markdown > docs/settings.md`; a test keeps it current. -->
# Settings

Every setting can be given as a flag, as an environment variable, or in a YAML file.
The first of these that sets it takes precedence:

1. a flag of `tidegate serve`: a dedicated flag, or `--set group.field=value`,
2. an environment variable `TIDEGATE_<GROUP>__<FIELD>`, such as `TIDEGATE_SERVER__PORT=8081`,
3. the YAML file named by `--config` or `TIDEGATE_CONFIG`,
4. the default.

```yaml
server:
  port: 8081
  auth: none
topic:
  conflated_types: [progress, heartbeat]
```

In flags and variables a list is written as `a,b` or as JSON.
An empty value there unsets an optional setting.
An unknown name is an error.
The variables that Kubernetes creates for a Service called `tidegate` are ignored.
If a value is invalid, the process exits with code 2 and prints one line per error:
path, value, what is allowed, and where the value came from.
`tidegate settings` shows the effective values, with secrets hidden, and where each came from.

Durations are in seconds (`_s`), sizes in bytes (`_bytes`).
"""


def settings_page() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    for group, model in groups().items():
        yield f"## {group}"
        yield ""
        yield (model.__doc__ or "").strip()
        yield ""
        yield "| setting | default | allowed | description |"
        yield "|---|---|---|---|"
        for field in setting_fields().values():
            if field.group == group:
                yield _row(field)
        yield ""


def _row(field: SettingField) -> str:
    allowed = field.allowed
    if field.optional:
        allowed += "; optional"
    default = field.default_cell.replace(",", ", ")
    cells = (f"`{field.path}`", default, allowed, field.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
