"""``tidegate publish``: append to an operation's stream with plain ``XADD``, as a backend does."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tidegate.cli import options
from tidegate.cli.console import FAILED, REFUSED, fail, failures_told

if TYPE_CHECKING:
    from tidegate.model.ids import OperationId
    from tidegate.redis.publishing import EntryWriter

#: Enough for minutes of history; a stream that nobody bounds grows until Redis is full.
DEFAULT_MAXLEN = 1000

_ENDS = ("completed", "failed", "cancelled")


def publish(
    operation: Annotated[str, typer.Argument(help="Operation id.", metavar="OPERATION")],
    data: Annotated[
        str,
        typer.Argument(
            help="A JSON object, the entry's data; `-` reads one per line from stdin.",
            metavar="JSON",
        ),
    ],
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="Type of the entry. Without it: `operation_<status>` when data.status is "
            "completed, failed or cancelled, else `progress`.",
        ),
    ] = None,
    maxlen: Annotated[
        int,
        typer.Option(
            "--maxlen", min=0, help="Keep about this many entries (MAXLEN ~); 0 keeps all."
        ),
    ] = DEFAULT_MAXLEN,
    feed: Annotated[
        str | None,
        typer.Option(
            "--feed",
            metavar="FEED",
            help="List the operation in this feed too, such as `user:42`, after the first entry; "
            "with the data's `title`.",
        ),
    ] = None,
    redis: options.Redis = None,
    prefix: options.Prefix = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Append one update, or one per line of stdin, to an operation. Prints the new ids.

    It is a plain XADD: any backend can do the same with its own Redis client.

    **Examples**

    `tidegate publish 42 '{"progress": 0.5, "message": "half way"}'`

    `tidegate publish 42 '{"status": "completed"}'`

    `tidegate publish 42 '{"status": "running", "title": "Export"}' --feed user:7`

    `my-job --json-lines | tidegate publish 42 -`
    """
    settings = options.load(
        {"--redis": redis, "--prefix": prefix}, assignments=assignments, config=config
    ).settings

    from tidegate.model.errors import InvalidOperationId
    from tidegate.model.ids import parse_operation_id
    from tidegate.redis.publishing import EntryWriter

    try:
        operation_id = parse_operation_id(operation)
        feed_id = None if feed is None else parse_operation_id(feed)
    except InvalidOperationId as error:
        fail(str(error), REFUSED)
    with failures_told(), EntryWriter(settings.redis, maxlen=maxlen or None) as publisher:
        if data == "-":
            if feed_id is not None:
                fail("--feed needs the data as an argument, not `-`", REFUSED)
            _publish_lines(publisher, operation_id, type_)
        else:
            try:
                fields = parse_object(data)
            except ValueError as error:
                fail(f"JSON: {error}", REFUSED)
            _publish_one(publisher, operation_id, type_, fields)
            if feed_id is not None:
                _list_in(publisher, feed_id, operation_id, fields.get("title"))


def _list_in(
    publisher: EntryWriter, feed: OperationId, operation: OperationId, title: object
) -> None:
    from tidegate.core.feeds import LISTED_TYPE, listed_data
    from tidegate.redis.publishing import message

    data = listed_data(operation, title if isinstance(title, str) else "")
    publisher.publish(feed, message(LISTED_TYPE, data))


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object as RFC 8259 has it; ``ValueError`` with words for the user."""

    def refuse_constant(name: str) -> NoReturn:
        # Python writes and reads NaN and Infinity, a browser's JSON.parse refuses the frame.
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError("must be an object, such as {\"progress\": 0.5}")  # fmt: skip
    return value


def default_type(data: dict[str, Any]) -> str:
    """An end gets a type of its own, so that it is not taken for a superseded progress entry."""
    status = data.get("status")
    return f"operation_{status}" if status in _ENDS else "progress"


def _publish_lines(publisher: EntryWriter, operation: OperationId, type_: str | None) -> None:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            fields = parse_object(line.decode().strip())
        except ValueError as error:  # UnicodeDecodeError is one
            fail(f"line {number}: {error}; the lines before it were published", FAILED)
        _publish_one(publisher, operation, type_, fields)


def _publish_one(
    publisher: EntryWriter, operation: OperationId, type_: str | None, data: dict[str, Any]
) -> None:
    from tidegate.redis.publishing import message

    typer.echo(publisher.publish(operation, message(type_ or default_type(data), data)))
