"""``tidegate watch``: follow one operation to its end, over as many connections as it takes."""

from __future__ import annotations

import re
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.console import CANCELLED, FAILED, INTERRUPTED, OK, REFUSED, fail, stdout
from tidegate.cli.viewer_token import TokenFileUnusable, viewer_token

if TYPE_CHECKING:
    from tidegate.cli.watch_views import WatchView
    from tidegate.client.following import TokenSource
    from tidegate.client.watching import WatchFinished, Watching

EXIT_CODES = {"completed": OK, "failed": FAILED, "cancelled": CANCELLED}
_HISTORY = re.compile(r"^(all|none|[0-9]{1,7})$")


def watch(
    operation: Annotated[str, typer.Argument(help="Operation id.", metavar="OPERATION")],
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Address of a replica; repeat it for several. Default ws://127.0.0.1:8080.",
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Start after this entry id; `0` is all."),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            "--history", metavar="N|all|none", help="Newest entries to start with, without --after."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="JWT",
            envvar="TIDEGATE_TOKEN",
            show_envvar=True,
            help="The viewer's token; prefer the variable or --token-file, flags are visible to "
            "all.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the token, read again for each connection.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each frame as one line of JSON.")
    ] = False,
    patience_s: Annotated[
        float,
        typer.Option(
            "--patience",
            metavar="SECONDS",
            min=0,
            help="Give up if no replica responds for this long.",
        ),
    ] = 60.0,
) -> None:
    """Follow one operation to its end.

    When the connection or its replica dies, the next replica is asked for what comes after the
    last entry received: nothing is lost or shown twice, or a gap is said.

    Exit code: 0 completed, 1 failed, 3 cancelled, 2 refused or no replica, 130 Ctrl-C.

    **Examples**

    `tidegate watch 42`

    `tidegate watch 42 --url ws://127.0.0.1:8080 --url ws://127.0.0.1:8081`

    `TIDEGATE_TOKEN=$(tidegate token --sub me --operations 42) tidegate watch 42`

    `tidegate watch 42 --json --history all | jq -c .data`
    """
    import asyncio

    from tidegate.cli.watch_views import JsonView, LineView, LiveView
    from tidegate.client.watching import Watching
    from tidegate.model.errors import InvalidInput
    from tidegate.model.ids import parse_operation_id, parse_stream_id

    if history is not None and _HISTORY.match(history) is None:
        fail("--history must be a number, `all` or `none`", REFUSED)
    try:
        tokens = viewer_token(token, token_file)
    except TokenFileUnusable as error:
        fail(str(error), REFUSED)
    try:
        if after is not None:
            after = str(parse_stream_id(after, "--after"))
        watching = Watching(
            parse_operation_id(operation),
            url or ["ws://127.0.0.1:8080"],
            after=after,
            history=history,
            renewable=token_file is not None,
        )
    except (InvalidInput, ValueError) as error:
        fail(str(error), REFUSED)

    view: WatchView
    if as_json:
        view = JsonView()
    elif stdout().is_terminal and sys.stdout.isatty():
        view = LiveView(watching)
    else:
        view = LineView(watching)
    try:
        with view:
            end = asyncio.run(_show(watching, view, patience_s, tokens))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except TokenFileUnusable as error:
        fail(str(error), REFUSED)
    if isinstance(end, str):
        fail(end, REFUSED)
    code = EXIT_CODES.get(end.status, OK)
    if not as_json:
        stdout().print(
            _last_line(watching, end), style="green" if code == OK else "red", markup=False
        )
    raise typer.Exit(code)


def _last_line(watching: Watching, end: WatchFinished) -> str:
    """The outcome, and how far it came: a completed one to 100 %."""
    if watching.fraction is None:
        return end.text
    return f"{end.text}, {watching.fraction:.0%}"


async def _show(
    watching: Watching, view: WatchView, patience_s: float, tokens: TokenSource | None
) -> WatchFinished | str:
    """Show until the end; why there is none, if there is none."""
    from tidegate.client.following import Note, Received, Unreachable, follow

    async with aclosing(follow(watching, patience_s, token=tokens)) as events:
        async for event in events:
            match event:
                case Received(text, frame):
                    view.frame(text, frame)
                case Note(text):
                    view.note(text)
                case Unreachable(text):
                    return text
                case ended:
                    return ended if ended.refused is None else ended.text
    raise AssertionError("the last event is an end")
