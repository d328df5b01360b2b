"""``tidegate watch``: follow one operation to its end, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli.console import INTERRUPTED, OK, REFUSED, fail, stdout

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from tidegate.cli.watch_views import View
    from tidegate.cli.watching import Decision, Finished, Watching

#: What a gateway may send in one frame: the upper bound of dispatch.max_entry_bytes, and room.
MAX_FRAME_BYTES = 65 * 1_048_576
OPEN_TIMEOUT_S = 5.0

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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each frame as one line of JSON.")
    ] = False,
    patience_s: Annotated[
        float,
        typer.Option(
            "--patience", metavar="SECONDS", min=0, help="Give up when no replica answers for this."
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

    `tidegate watch 42 --json --history all | jq -c .data`
    """
    from tidegate.cli.watch_views import JsonView, LineView, LiveView
    from tidegate.cli.watching import Watching
    from tidegate.model.errors import InvalidInput
    from tidegate.model.ids import parse_operation_id, parse_stream_id

    if history is not None and _HISTORY.match(history) is None:
        fail("--history must be a number, `all` or `none`", REFUSED)
    try:
        if after is not None:
            after = str(parse_stream_id(after, "--after"))
        watching = Watching(
            parse_operation_id(operation),
            url or ["ws://127.0.0.1:8080"],
            after=after,
            history=history,
        )
    except (InvalidInput, ValueError) as error:
        fail(str(error), REFUSED)

    view: View
    if as_json:
        view = JsonView()
    elif stdout().is_terminal and sys.stdout.isatty():
        view = LiveView(watching)
    else:
        view = LineView(watching)
    try:
        with view:
            end = asyncio.run(_follow(watching, view, patience_s))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if end.exit_code == REFUSED:
        fail(end.text, REFUSED)
    if not as_json:
        stdout().print(end.text, style="green" if end.exit_code == OK else "red", markup=False)
    raise typer.Exit(end.exit_code)


async def _follow(watching: Watching, view: View, patience_s: float) -> Finished:
    from tidegate.cli.watching import Finished

    answered_s = time.monotonic()
    while True:
        base = watching.base
        decision, answered = await _connect_once(watching, view)
        if isinstance(decision, Finished):
            return decision
        if answered:
            answered_s = time.monotonic()
        waited_s = time.monotonic() - answered_s
        if waited_s + decision.delay_s > patience_s:
            return Finished(
                REFUSED,
                f"no replica answered for {waited_s:.0f} s; the last: {base}: {decision.text}",
            )
        view.note(f"{base}: {decision.text}; next {watching.base} in {decision.delay_s:.1f} s")
        await asyncio.sleep(decision.delay_s)


async def _connect_once(watching: Watching, view: View) -> tuple[Decision, bool]:
    """One connection from its start to its end; whether a gateway spoke on it."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.typing import Subprotocol

    try:
        socket = await connect(
            watching.url,
            subprotocols=[Subprotocol("tidegate.v1")],
            # Frames are small and many: the gateway sends them uncompressed.
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1,
            user_agent_header=None,
        )
    except InvalidStatus as error:
        response = error.response
        text = (response.body or b"").decode(errors="replace").strip()[:200]
        decision = watching.not_connected(
            text or response.reason_phrase,
            status=response.status_code,
            retry_after_s=_seconds(response.headers.get("Retry-After")),
        )
        return decision, False
    except (OSError, TimeoutError, InvalidHandshake) as error:
        return watching.not_connected(_words(error)), False
    spoke = await _read(socket, watching, view)
    return watching.closed(socket.close_code or 1006, socket.close_reason or ""), spoke


async def _read(socket: ClientConnection, watching: Watching, view: View) -> bool:
    from websockets.exceptions import ConnectionClosed

    spoke = False
    async with socket:
        try:
            while True:
                text = await socket.recv()
                frame = _parse(text)
                if frame is not None:
                    spoke = True
                    watching.received(frame, time.time())
                    view.frame(str(text), frame)
        except ConnectionClosed:
            return spoke


def _parse(text: str | bytes) -> dict[str, Any] | None:
    """A frame; what is none is passed over, as a newer protocol may bring what we do not know."""
    if isinstance(text, bytes):
        return None
    try:
        frame = json.loads(text)
    except ValueError:
        return None
    return frame if isinstance(frame, dict) else None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None


def _words(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
