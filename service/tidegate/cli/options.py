"""Flags that several commands share, and their way into the settings tree.

A flag that stands for a setting names it in its help. What has no flag of its own is reached
with ``--set group.field=value``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.console import REFUSED, fail

if TYPE_CHECKING:
    from tidegate.model.settings import Settings
    from tidegate.settings_loading.loading import Given, Loaded

_SETTINGS = "Settings"

Host = Annotated[
    str | None,
    typer.Option("--host", help="Address for viewers (server.host).", rich_help_panel=_SETTINGS),
]
Port = Annotated[
    str | None,
    typer.Option("--port", help="Port for viewers (server.port).", rich_help_panel=_SETTINGS),
]
AdminHost = Annotated[
    str | None,
    typer.Option(
        "--admin-host",
        help="Address for health, metrics, debug (server.admin_host).",
        rich_help_panel=_SETTINGS,
    ),
]
AdminPort = Annotated[
    str | None,
    typer.Option(
        "--admin-port",
        help="Port for health, metrics, debug (server.admin_port).",
        rich_help_panel=_SETTINGS,
    ),
]
Pod = Annotated[
    str | None,
    typer.Option("--pod", help="Name of this replica (server.pod).", rich_help_panel=_SETTINGS),
]
Auth = Annotated[
    str | None,
    typer.Option(
        "--auth",
        help="How viewers are authenticated: `jwt` or `none` (server.auth).",
        rich_help_panel=_SETTINGS,
    ),
]
Redis = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help="redis://, rediss://, unix://, redis+sentinel://h1,h2/master or "
        "redis+cluster://h1,h2 (redis.url).",
        rich_help_panel=_SETTINGS,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        help="Put before the operation id to name its stream (redis.key_prefix).",
        rich_help_panel=_SETTINGS,
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Worker processes that share the ports, one core each (server.workers).",
        rich_help_panel=_SETTINGS,
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        help="debug, info, warning or error (log.level).",
        rich_help_panel=_SETTINGS,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of settings (or TIDEGATE_CONFIG).",
        rich_help_panel=_SETTINGS,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="GROUP.FIELD=VALUE",
        help="Any setting; may be repeated. `tidegate settings` lists them.",
        rich_help_panel=_SETTINGS,
    ),
]

#: Flags in the order in which they are given to `load`, each with its setting.
SETTING_OF_FLAG: Mapping[str, str] = {
    "--host": "server.host",
    "--port": "server.port",
    "--admin-host": "server.admin_host",
    "--admin-port": "server.admin_port",
    "--pod": "server.pod",
    "--auth": "server.auth",
    "--workers": "server.workers",
    "--redis": "redis.url",
    "--prefix": "redis.key_prefix",
    "--log-level": "log.level",
}


def load(
    flags: Mapping[str, str | None],
    *,
    assignments: Sequence[str] | None = None,
    config: Path | None = None,
) -> Loaded[Settings]:
    """The effective settings, or exit 2 with one line per problem on stderr."""
    from tidegate.cli.settings_source import load_settings, parse_assignment
    from tidegate.model.errors import SettingsError
    from tidegate.settings_loading.loading import Given

    def given() -> Iterable[Given]:
        for text in assignments or ():
            yield parse_assignment(text)
        for flag, value in flags.items():
            if value is not None:
                yield Given(SETTING_OF_FLAG[flag], value, flag)

    try:
        return load_settings(list(given()), config)
    except SettingsError as error:
        fail(str(error), REFUSED)
