"""``tidegate top``: what each replica does and which operations are watched, live."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.console import FAILED, INTERRUPTED, REFUSED, fail, stdout
from tidegate.model.operation_order import OperationOrder

if TYPE_CHECKING:
    from tidegate.cli.top_samples import ReplicaPoller, ReplicaSample
    from tidegate.cli.top_views import TopReading

#: Where `tidegate run` has the admin ports of its two replicas.
DEFAULT_URLS = ("http://127.0.0.1:9090", "http://127.0.0.1:9091")

PIPE_WIDTH = 180


def top(
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Admin port of a replica; repeat it for several. Default: those of "
            "`tidegate run`, http://127.0.0.1:9090 and 9091.",
        ),
    ] = None,
    interval_s: Annotated[
        float,
        typer.Option(
            "--interval", metavar="SECONDS", min=0.2, max=60, help="Between two readings."
        ),
    ] = 2.0,
    operations: Annotated[
        int,
        typer.Option(
            "--operations", metavar="N", min=0, max=500, help="How many operations; 0 for none."
        ),
    ] = 15,
    sort: Annotated[
        OperationOrder, typer.Option("--sort", help="Which operations come first.")
    ] = OperationOrder.VIEWERS,
    once: Annotated[bool, typer.Option("--once", help="Two readings, one table, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each reading.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="TIDEGATE_SERVER__ADMIN_TOKEN",
            show_envvar=True,
            help="Value of server.admin_token; prefer the variable, flags are visible to all.",
        ),
    ] = None,
) -> None:
    """Watch the replicas: connections, viewers, entries, latency, and the busiest operations.

    Rates and latencies are of the time between two readings. A replica that does not answer is
    shown as dead, and again when it is back.

    Exit code of --once: 0, 1 when no replica answered, 2 when the token was refused.

    **Examples**

    `tidegate top`

    `tidegate top --url http://127.0.0.1:9090 --sort lagging`

    `tidegate top --once --json | jq '.replicas[] | {name, connections, latency_p99_s}'`
    """
    import asyncio

    from tidegate.cli.top_samples import URLS_MAX, ReplicaPoller, TopInputError, parse_url

    try:
        urls = list(dict.fromkeys(parse_url(text) for text in url or DEFAULT_URLS))
    except TopInputError as error:
        fail(str(error), REFUSED)
    if len(urls) > URLS_MAX:
        fail(f"--url may be given at most {URLS_MAX} times", REFUSED)
    if token is not None and not (token.isascii() and token.isprintable()):
        fail("--token must be printable ASCII", REFUSED)
    looker = ReplicaPoller(urls, token or None, operations, sort)
    try:
        if once:
            code = asyncio.run(_once(looker, interval_s, operations, sort, as_json=as_json))
        else:
            code = asyncio.run(_live(looker, interval_s, operations, sort, as_json=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(code)


async def _once(
    looker: ReplicaPoller, interval_s: float, most: int, order: OperationOrder, *, as_json: bool
) -> int:
    import asyncio

    async with looker:
        before = await looker.look()
        await asyncio.sleep(interval_s)
        now = await looker.look()
    reading = _reading(before, now, most, order)
    _print(reading, as_json=as_json)
    if all(sample.state == "dead" for sample in now):
        fail("no replica answers; is the address that of an admin port?", FAILED)
    return REFUSED if reading.refused else 0


async def _live(
    looker: ReplicaPoller, interval_s: float, most: int, order: OperationOrder, *, as_json: bool
) -> int:
    import asyncio
    from contextlib import ExitStack

    from tidegate.cli.top_views import as_tables

    in_place = not as_json and stdout().is_terminal and sys.stdout.isatty()
    before: list[ReplicaSample] = []
    with ExitStack() as stack:
        screen = None
        if in_place:
            from rich.live import Live

            screen = stack.enter_context(Live(console=stdout(), screen=True, auto_refresh=False))
        async with looker:
            while True:
                now = await looker.look()
                reading = _reading(before, now, most, order)
                if screen is not None:
                    screen.update(as_tables(reading, stdout().width), refresh=True)
                else:
                    _print(reading, as_json=as_json)
                before = now
                await asyncio.sleep(interval_s)


def _reading(
    before: list[ReplicaSample], now: list[ReplicaSample], most: int, order: OperationOrder
) -> TopReading:
    from tidegate.cli.top_figures import figures, operation_figures
    from tidegate.cli.top_views import TopReading

    old = {sample.url: sample for sample in before}
    return TopReading(
        [figures(old.get(sample.url), sample) for sample in now],
        operation_figures(before, now, order)[:most],
        [(sample.url, sample.refused) for sample in now if sample.refused is not None],
    )


def _print(reading: TopReading, *, as_json: bool) -> None:
    from tidegate.cli.top_views import as_json as json_of
    from tidegate.cli.top_views import as_tables

    if as_json:
        import json

        typer.echo(json.dumps(json_of(reading), separators=(",", ":")))
    else:
        width = _width()
        stdout().print(as_tables(reading, width), width=width)


def _width() -> int:
    """Of the terminal, also that behind a pipe; without any, enough for all columns."""
    if stdout().is_terminal or os.environ.get("COLUMNS", "").isdecimal():
        return stdout().width
    for stream in (sys.stdin, sys.stderr):
        try:
            return os.get_terminal_size(stream.fileno()).columns or PIPE_WIDTH
        except (OSError, ValueError, AttributeError):
            continue
    return PIPE_WIDTH
