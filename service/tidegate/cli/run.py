"""``tidegate run``: a whole Tidegate on one machine, to look at and to hurt.

An embedded server, replicas as processes of their own, and a demo backend. What dies is said and
comes back; Ctrl-C, SIGTERM or a closed terminal end everything in order (backend, replicas,
server), a second signal ends it at once.

Invariant: nothing outlives the command, however it ends: no process, no folder, no port.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli import options
from tidegate.cli.console import FAILED, fail, failures_told


def run(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65_000, help="Port of the first replica.")
    ] = 8080,
    admin_port: Annotated[
        int, typer.Option("--admin-port", min=1, max=65_000, help="Admin port of the first.")
    ] = 9090,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address for viewers; with 0.0.0.0, set "
            "TIDEGATE_SERVER__ALLOWED_HOSTS to the names by which others ask for it.",
        ),
    ] = "127.0.0.1",
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=16, help="How many gateway replicas.")
    ] = 2,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis", metavar="URL", help="Use this Redis server instead of an embedded one."
        ),
    ] = None,
    redis_port: Annotated[
        int, typer.Option("--redis-port", min=1, max=65_000, help="Port of the embedded server.")
    ] = 6390,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Same seed, same operations in the same order.")
    ] = None,
    operations: Annotated[
        int,
        typer.Option(
            "--operations", metavar="N", min=0, max=200, help="How many run at the same time."
        ),
    ] = 6,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", metavar="N", min=0.01, max=525_600, help="Exit after this time."),
    ] = None,
    open_page: Annotated[
        bool,
        typer.Option(
            "--open/--no-open", help="Open the page in a browser, on a desktop and a terminal."
        ),
    ] = True,
    restart: Annotated[
        bool, typer.Option("--restart/--no-restart", help="Restart replicas that died.")
    ] = True,
    restart_after_s: Annotated[
        float,
        typer.Option(
            "--restart-after", metavar="SECONDS", min=0, help="Time after which they are restarted."
        ),
    ] = 10.0,
    log_level: options.LogLevel = "warning",
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Try it: embedded server, two replicas, and a backend with operations to watch.

    Ports that are taken are replaced by the next free ones. Kill a replica and watch the page, or
    a terminal, carry on where it was. Ctrl-C ends everything and leaves nothing behind. Pages of
    any port of this machine may connect, such as that of a development server.

    **Examples**

    `tidegate run`

    `tidegate run --replicas 3 --no-restart`

    `tidegate run --operations 40 --minutes 5 --no-open` for a screen in a hall, or a script

    `tidegate run --redis redis://127.0.0.1:6379/0` uses your own server; the demo's streams are
    deleted at the end
    """
    # Wrong settings are said here, once, instead of by each replica.
    flags = {"--redis": redis, "--log-level": log_level, "--auth": "none"}
    loaded = options.load(flags, assignments=assignments, config=config)

    import asyncio

    from tidegate.cli.demo import Demo, DemoOptions
    from tidegate.cli.demo_words import say
    from tidegate.model.errors import TidegateError

    source = loaded.sources["redis.url"]
    embed = source not in ("--redis", "--set")
    if embed and source != "default":
        # The shell that tries a demo may be the one that administers production.
        say(f"redis.url from {source} is not used: a server is embedded; --redis names another")
    from tidegate.redis.address import parse_address

    with failures_told():
        parse_address(loaded.settings.redis)
    demo = Demo(
        DemoOptions(
            host=host,
            port=port,
            admin_port=admin_port,
            replicas=replicas,
            embed=embed,
            redis_port=redis_port,
            seed=seed,
            operations=operations,
            ends_after_s=None if minutes is None else minutes * 60,
            open_page=open_page,
            restart_after_s=restart_after_s if restart else None,
            config=config,
            assignments=tuple(assignments or ()),
        ),
        loaded.settings,
    )
    try:
        asyncio.run(demo.run())
    except (TidegateError, OSError) as error:
        fail(str(error), FAILED)
