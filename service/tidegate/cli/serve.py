"""``tidegate serve``: runs one replica, or a supervisor of several workers, until a signal."""

from __future__ import annotations

from tidegate.cli import options
from tidegate.cli.console import REFUSED, fail, failures_told

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
    workers: options.Workers = None,
    log_level: options.LogLevel = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Run one replica of the gateway, or several on one port with `--workers`.

    A flag takes precedence over a `TIDEGATE_<GROUP>__<FIELD>` variable, a variable over the YAML
    file, and the file over the default. With an invalid setting it exits with code 2, and prints a
    line for each problem.

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
            "--workers": workers,
            "--log-level": log_level,
        },
        assignments=assignments,
        config=config,
    )
    if loaded.settings.server.auth is None:
        fail(NO_AUTH_CHOSEN, REFUSED)

    import asyncio

    from tidegate.runtime import serve as serve_replica
    from tidegate.runtime.event_loop import loop_factory

    # A process that uvloop starts inherits no blocked signals, and a supervisor serves no viewer.
    factory = loop_factory() if loaded.settings.server.workers == 1 else None
    with failures_told(), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve_replica(loaded.settings))
