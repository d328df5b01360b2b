"""``tidegate doctor``: tries what a gateway and its viewers need, and says what to change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli import options
from tidegate.cli.console import FAILED, REFUSED, fail, failures_told, stdout
from tidegate.cli.viewer_token import TokenFileUnusable, viewer_token

if TYPE_CHECKING:
    from tidegate.client.following import TokenSource
    from tidegate.model.findings import Finding
    from tidegate.model.settings import Settings

URLS_MAX = 16
#: An ACL that is too small may refuse many commands.
FOUND_MAX_CHARS = 2_000


def doctor(
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Address at which viewers reach the gateway, through all proxies; repeat it for "
            "several.",
        ),
    ] = None,
    admin: Annotated[
        list[str] | None,
        typer.Option(
            "--admin", metavar="URL", help="Admin port of a replica, for /readyz; may be repeated."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="JWT",
            envvar="TIDEGATE_TOKEN",
            show_envvar=True,
            help="A viewer's token, for --url.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="File with that token.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: verdict, findings.")] = False,
    redis: options.Redis = None,
    prefix: options.Prefix = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Try what the gateway needs of Redis, and what viewers need of the path to the gateway.

    Redis: login, version, Cluster, change notifications, ACL, memory and eviction, output buffer,
    clock, latency. With --url: HTTP, a WebSocket, and whether an event stream is buffered. Redis
    is tried with --redis or another setting of redis.url, and without --url.

    Exit code: 0 it will work, also with warnings; 1 it will not; 2 wrong usage.

    **Examples**

    `tidegate doctor --redis redis://redis.example:6379/0`

    `tidegate doctor --url https://gateway.example.com --admin http://127.0.0.1:9090`

    `tidegate doctor --config gateway.yaml --json | jq '.findings[] | select(.verdict != "ok")'`
    """
    flags = {"--redis": redis, "--prefix": prefix}
    loaded = options.load(flags, assignments=assignments, config=config)

    from tidegate.cli.doctor_gateway import parse_gateway
    from tidegate.cli.top_samples import parse_url

    try:
        tokens = viewer_token(token, token_file)
        urls = [parse_gateway(text) for text in url or ()]
        admins = [parse_url(text) for text in admin or ()]
    except (ValueError, TokenFileUnusable) as error:
        fail(str(error), REFUSED)
    if len(urls) > URLS_MAX or len(admins) > URLS_MAX:
        fail(f"--url and --admin may be given at most {URLS_MAX} times each", REFUSED)
    with_redis = loaded.sources["redis.url"] != "default" or not (urls or admins)

    import asyncio

    from tidegate.model.findings import FindingLevel, worst

    with failures_told():
        found = asyncio.run(_examine(loaded.settings if with_redis else None, urls, admins, tokens))
    if as_json:
        findings = [one._asdict() | {"verdict": one.verdict.value} for one in found]
        typer.echo(json.dumps({"verdict": worst(found).value, "findings": findings}, indent=2))
    else:
        _print(found)
    raise typer.Exit(FAILED if worst(found) is FindingLevel.FAILED else 0)


async def _examine(
    settings: Settings | None,
    urls: Sequence[str],
    admins: Sequence[str],
    tokens: TokenSource | None,
) -> list[Finding]:
    from tidegate.cli.doctor_gateway import examine_admin, examine_gateway
    from tidegate.redis.examination import examine_redis

    found = [] if settings is None else await examine_redis(settings)
    for url in urls:
        found += await examine_gateway(url, None if tokens is None else await tokens())
    for url in admins:
        found.append(await examine_admin(url))
    return found


def _print(found: Sequence[Finding]) -> None:
    """One line for each, and below what is not good what to change."""
    from rich.text import Text

    from tidegate.cli.top_views import printable
    from tidegate.model.findings import FindingLevel, worst

    styles = {
        FindingLevel.OK: "green",
        FindingLevel.WARNING: "yellow",
        FindingLevel.FAILED: "bold red",
        FindingLevel.UNKNOWN: "yellow",
    }
    where = ""
    width = max(len(one.check) for one in found)
    for one in found:
        if one.where != where:
            where = one.where
            stdout().print(Text(printable(where), style="bold"), soft_wrap=True)
        line = Text("  ").append(f"{one.verdict.value:<7}", styles[one.verdict])
        line.append(f"  {one.check:<{width}}  {printable(one.found, FOUND_MAX_CHARS)}")
        stdout().print(line, soft_wrap=True)
        if one.advice:
            stdout().print(Text(f"  {'':<7}  {'':<{width}}  -> {one.advice}"), soft_wrap=True)
    ends = {
        FindingLevel.OK: "all is well",
        FindingLevel.WARNING: "it works; see the warnings",
        FindingLevel.FAILED: "it does not work yet: change what is marked `failed`",
    }
    stdout().print(Text(ends[worst(found)], style=styles[worst(found)]))
