"""``tidegate cancel``: ask the worker of an operation to stop, through a replica or in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from tidegate.cli import options
from tidegate.cli.console import FAILED, REFUSED, fail, failures_told

if TYPE_CHECKING:
    from tidegate.core.cancelling import CancelReply
    from tidegate.model.ids import OperationId
    from tidegate.model.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8080"


def cancel(
    operation: Annotated[str, typer.Argument(help="Operation id.", metavar="OPERATION")],
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Address of a replica; repeat it for several, which are tried in turn. Default "
            f"{DEFAULT_URL}.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="TIDEGATE_TOKEN",
            show_envvar=True,
            help="Token of a user who may cancel the operation; better in the variable, because "
            "arguments are visible to other users of the machine.",
        ),
    ] = None,
    redis: options.Redis = None,
    prefix: options.Prefix = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Ask the worker of an operation to stop.

    Its viewers see `cancelling`, and the operation ends when its worker stops. With --redis it is
    written to Redis, without asking a replica whether it may be.

    Exit code: 0 asked for, now or before; 1 failed; 2 refused, ended or not there.

    **Examples**

    `tidegate cancel 42`

    `tidegate cancel 42 --url https://progress.example.com`

    `tidegate cancel 42 --redis redis://127.0.0.1:6379/0`
    """
    from tidegate.model.errors import InvalidOperationId
    from tidegate.model.ids import parse_operation_id

    if redis is not None and url:
        fail("give --url or --redis, not both", REFUSED)
    try:
        operation_id = parse_operation_id(operation)
    except InvalidOperationId as error:
        fail(str(error), REFUSED)
    if redis is None:
        _through_a_replica(operation_id, url or [DEFAULT_URL], token)
        return
    settings = options.load(
        {"--redis": redis, "--prefix": prefix}, assignments=assignments, config=config
    ).settings
    import asyncio

    from tidegate.core.cancelling import CancelOutcome

    with failures_told():
        reply = asyncio.run(_in_redis(operation_id, settings))
    match reply.outcome:
        case CancelOutcome.REQUESTED | CancelOutcome.ALREADY_REQUESTED:
            typer.echo(reply.entry_id)
        case CancelOutcome.ALREADY_ENDED:
            fail("the operation has ended already", REFUSED)
        case CancelOutcome.NO_STREAM:
            fail("there is no stream of this operation", REFUSED)
        case CancelOutcome.BUSY:
            fail("the operation is being written to; retry")


def _through_a_replica(operation: OperationId, urls: list[str], token: str | None) -> None:
    import asyncio

    from tidegate.client.cancelling import first_answer
    from tidegate.model.errors import GatewayUnreachable

    bases = [_base(url) for url in urls]
    try:
        answer = asyncio.run(first_answer(operation, bases, token=token))
    except GatewayUnreachable as error:
        fail(str(error))
    if answer.is_accepted:
        typer.echo(str(answer.body.get("id")))
        return
    reason = answer.body.get("detail") or "no reason given"
    said = f"{answer.address} answered {answer.status}: {reason}"
    fail(said, REFUSED if answer.is_final else FAILED)


def _base(url: str) -> str:
    base = url if "://" in url else f"http://{url}"
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        fail(f"--url: {url} is no http:// or https:// address", REFUSED)
    return base


async def _in_redis(operation: OperationId, settings: Settings) -> CancelReply:
    from tidegate.redis.address import parse_address
    from tidegate.redis.cancelling import RedisCanceller
    from tidegate.redis.log import RedisLog
    from tidegate.redis.topology import Topology

    topology = Topology(parse_address(settings.redis), settings.redis)
    try:
        await topology.refresh()
        canceller = RedisCanceller(topology, RedisLog(topology, settings), settings)
        return await canceller.cancel(operation)
    finally:
        await topology.close()
