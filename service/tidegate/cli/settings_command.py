"""``tidegate settings``: the effective settings, redacted, each with where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli import options
from tidegate.cli.console import REFUSED, fail, stdout

if TYPE_CHECKING:
    from tidegate.model.settings import Settings
    from tidegate.settings_loading.loading import Loaded


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: settings, sources.")] = False,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print a file for --config; secrets are commented out.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference page (defaults only).")
    ] = False,
    host: options.Host = None,
    port: options.Port = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
    redis: options.Redis = None,
    pod: options.Pod = None,
    auth: options.Auth = None,
    log_level: options.LogLevel = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Show the effective settings and where each came from.

    Secrets, and passwords inside URLs, are shown as `***`.

    **Examples**

    `tidegate settings --config gateway.yaml`

    `tidegate settings --json | jq .sources`
    """
    if as_json + as_yaml + as_markdown > 1:
        fail("--json, --yaml and --markdown exclude one another", REFUSED)
    if as_markdown:
        from tidegate.cli.settings_page import settings_page

        typer.echo(settings_page(), nl=False)
        return
    loaded = options.load(
        {
            "--host": host,
            "--port": port,
            "--admin-host": admin_host,
            "--admin-port": admin_port,
            "--redis": redis,
            "--pod": pod,
            "--auth": auth,
            "--log-level": log_level,
        },
        assignments=assignments,
        config=config,
    )
    if as_json:
        typer.echo(_json(loaded))
    elif as_yaml:
        typer.echo(_yaml(loaded), nl=False)
    else:
        _print_table(loaded)


def _json(loaded: Loaded[Settings]) -> str:
    import json

    from tidegate.cli.settings_fields import plain_value, setting_fields

    tree: dict[str, dict[str, object]] = {}
    for path, field in setting_fields().items():
        tree.setdefault(field.group, {})[field.name] = plain_value(loaded.settings, path)
    return json.dumps({"settings": tree, "sources": dict(loaded.sources)}, indent=2)


def _yaml(loaded: Loaded[Settings]) -> str:
    import yaml

    from tidegate.cli.settings_fields import plain_value, setting_fields

    lines: list[str] = []
    group = ""
    for path, field in setting_fields().items():
        if field.group != group:
            group = field.group
            lines += ["", f"{group}:"] if lines else [f"{group}:"]
        value = plain_value(loaded.settings, path)
        text = yaml.safe_dump(
            {field.name: value}, default_flow_style=True, width=10_000, allow_unicode=True
        )
        # {name: value} in flow style is one line whatever the value; without its braces it is
        # the line wanted here.
        line = text.strip().removeprefix("{").removesuffix("}")
        hidden = isinstance(value, str) and "***" in value
        lines.append(f"  {'# ' if hidden else ''}{line}  # {loaded.sources[path]}")
    return "\n".join(lines) + "\n"


def _print_table(loaded: Loaded[Settings]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tidegate.cli.settings_fields import setting_fields, value_at

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("setting", "value", "from"):
        table.add_column(title, overflow="fold")
    group = ""
    for path, field in setting_fields().items():
        if group and field.group != group:
            table.add_section()
            table.add_row()
        group = field.group
        source = loaded.sources[path]
        table.add_row(
            Text(path),
            Text(field.show(value_at(loaded.settings, path))),
            Text(source, style="dim" if source == "default" else "green"),
        )
    # Into a pipe (grep, less -S) one setting stays one line, however long.
    console = stdout() if stdout().is_terminal else Console(width=1_000, highlight=False)
    console.print(table)
