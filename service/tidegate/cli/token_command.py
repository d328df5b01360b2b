"""``tidegate token`` makes a viewer's token, and ``tidegate token check`` tries one."""

# No `from __future__ import annotations`: typer could not find the options by their names.

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli import options
from tidegate.cli.console import FAILED, REFUSED, fail, failures_told, stdout

if TYPE_CHECKING:
    from tidegate.cli.token_check import TokenReport

KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="Private key (PEM) to sign with."),
]

token = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")


@token.callback(invoke_without_command=True)
def make(
    context: typer.Context,
    sub: Annotated[str | None, typer.Option("--sub", metavar="USER", help="The user's id.")] = None,
    operations: Annotated[
        list[str] | None,
        typer.Option(
            "--operations",
            metavar="ID",
            help="Operations that it grants access to: ids or patterns with `*`, separated by "
            "commas; may be repeated. Used by source.kind = claims.",
        ),
    ] = None,
    valid_for: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="Such as 90s, 30m, 8h or 7d.")
    ] = "1h",
    key_file: KeyFile = None,
    key_id: Annotated[
        str | None, typer.Option("--kid", metavar="ID", help="Id of the key in a JWKS.")
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option("--audience", metavar="AUD", help="Instead of the first of auth.audience."),
    ] = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Make a viewer's token, for first steps, scripts and tests. Prints the token and nothing else.

    It is signed with auth.secret (HS256), or with the private key of --key-file, and has the
    issuer and the audience of the settings.

    **Examples**

    `tidegate token --sub user-1 --operations 'report-*' --for 1h`

    `TIDEGATE_TOKEN=$(tidegate token --sub user-1 --operations 42) tidegate watch 42`

    `tidegate token check "$TIDEGATE_TOKEN"` says what is wrong with one
    """
    if context.invoked_subcommand is not None:
        return
    if sub is None:
        fail("--sub USER is missing: the id of the user that the token is for", REFUSED)
    settings = options.load({}, assignments=assignments, config=config).settings.auth

    from tidegate.cli.token_signing import make_token, parse_duration, signing_key
    from tidegate.model.errors import InvalidRequest

    listed = [one.strip() for text in operations or () for one in text.split(",") if one.strip()]
    with failures_told():
        try:
            made = make_token(
                settings,
                signing_key(settings, key_file),
                user=sub,
                operations=listed if operations else None,
                valid_s=parse_duration(valid_for),
                audience=audience,
                key_id=key_id,
            )
        except InvalidRequest as error:
            fail(str(error), REFUSED)
    typer.echo(made)


@token.command()
def check(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKEN",
            envvar="TIDEGATE_TOKEN",
            help="The token; `-` reads it from stdin, which other users cannot see.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: accepted, faults, header, claims.")
    ] = False,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Try a token as a gateway with these settings would, and say all that is wrong with it.

    Exit code: 0 accepted, 1 refused, 2 no token or no key.

    **Examples**

    `tidegate token check eyJhbGciOi...`

    `pbpaste | tidegate token check - --set auth.jwks_url=https://issuer.example/keys`
    """
    if text == "-":
        text = sys.stdin.read(100_000)
    text = (text or "").strip().removeprefix("Bearer ").strip()
    if not text:
        fail("no token: give it as the argument, on stdin with `-`, or as TIDEGATE_TOKEN", REFUSED)
    settings = options.load({}, assignments=assignments, config=config).settings.auth

    import asyncio

    from tidegate.cli.token_check import check_token

    with failures_told():
        report = asyncio.run(check_token(text, settings))
    if as_json:
        import json

        typer.echo(
            json.dumps(
                {
                    "accepted": not report.faults,
                    "faults": [fault._asdict() for fault in report.faults],
                    "header": report.header,
                    "claims": report.claims,
                }
            )
        )
    else:
        _print(report)
    raise typer.Exit(FAILED if report.faults else 0)


def _print(report: "TokenReport") -> None:
    from rich.text import Text

    from tidegate.cli.token_check import moment
    from tidegate.cli.top_views import printable

    if report.faults:
        stdout().print(Text("refused", style="bold red"))
        for fault in report.faults:
            stdout().print(Text(f"  {printable(fault.text)}"), soft_wrap=True)
    else:
        stdout().print(Text("accepted", style="bold green"))
    for name, values in (("header", report.header), ("claims", report.claims)):
        for key, value in list((values or {}).items())[:32]:
            is_time = key in ("exp", "iat", "nbf")
            shown = f"{value} ({moment(value)})" if is_time else str(value)
            line = f"{name}  {printable(str(key))} = {printable(shown)}"
            stdout().print(Text(line, style="dim"), soft_wrap=True)
