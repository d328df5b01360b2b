"""``tidegate serve``: one replica of the gateway, until SIGTERM or SIGINT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.cli import options
from tidegate.cli.console import REFUSED, fail, failures_told

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

NO_AUTH_CHOSEN = """\
server.auth is not set, so this replica does not start.
Choose how viewers are authenticated: `--auth jwt` (with auth.secret, auth.key_file or
auth.jwks_url, and with source.kind), or `--auth none`, which means that anyone who can reach the
port can watch every operation."""


def serve(
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
    """Run one replica of the gateway.

    A flag goes before a `TIDEGATE_<GROUP>__<FIELD>` variable, that before the YAML file, that
    before the default. A wrong setting stops the start with exit code 2 and one line per mistake.

    **Examples**

    `tidegate serve --auth none`

    `tidegate serve --auth none --redis redis+sentinel://s1,s2,s3/main --port 8081`

    `TIDEGATE_REDIS__PASSWORD=... tidegate serve --config gateway.yaml --set log.level=debug`
    """
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
    if loaded.settings.server.auth is None:
        fail(NO_AUTH_CHOSEN, REFUSED)

    import asyncio

    from tidegate.runtime import serve as serve_replica

    with failures_told(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve_replica(loaded.settings))


def _loop_factory() -> Callable[[], AbstractEventLoop] | None:
    """uvloop where it is installed (it is not on Windows or PyPy)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
