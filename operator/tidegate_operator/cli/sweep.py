"""``tidegate-operator sweep``: the clean-up of streams without Kubernetes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli import options
from tidegate.cli.console import FAILED, INTERRUPTED, REFUSED, fail, stderr

if TYPE_CHECKING:
    from tidegate.model.settings import RedisSettings, Settings
    from tidegate.redis.topology import Topology
    from tidegate_operator.cli.views import SweepView
    from tidegate_operator.model.streams import Streams

FILE_MAX_BYTES = 1_048_576
_SPEC = "What is kept"
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9_.:@~+=/#-]{4,128}", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _duration(text: str) -> Any:
    return typer.Option(metavar="TIME", help=text, rich_help_panel=_SPEC)


def sweep(
    redis: options.Redis = None,
    prefix: options.Prefix = None,
    once: Annotated[bool, typer.Option("--once", help="One round over all streams.")] = False,
    uninstall: Annotated[
        bool,
        typer.Option(
            "--uninstall",
            help="The gateway is gone for good: one round, and remove its consumer groups, slots "
            "and keys, too. Nothing is removed while a replica has a lease.",
        ),
    ] = False,
    wait: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="With --uninstall: how long the last replicas may take to end."
        ),
    ] = "2m",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be done without changing anything.")
    ] = False,
    gateway: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A Gateway resource as YAML: its `spec.streams` is used; flags take precedence.",
            rich_help_panel=_SPEC,
        ),
    ] = None,
    finished: Annotated[str | None, _duration("How long finished streams are kept (1h).")] = None,
    failed: Annotated[
        str | None, _duration("How long streams that ended with a failure are kept (24h).")
    ] = None,
    idle: Annotated[
        str | None,
        _duration("How long unfinished streams without viewers are kept (24h)."),
    ] = None,
    orphan: Annotated[
        str | None, _duration("How long streams that never had a viewer are kept (24h).")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trim ended streams to the newest N entries.", rich_help_panel=_SPEC
        ),
    ] = None,
    commands_per_s: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of Redis commands per second.")
    ] = None,
    memory_limit: Annotated[
        int | None,
        typer.Option(metavar="BYTES", help="Memory limit to assume if Redis has no maxmemory."),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Without --once: time between two rounds."),
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option(
            "--patience",
            metavar="SECONDS",
            min=0,
            help="Give up if Redis is unavailable for this long.",
        ),
    ] = 60.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each round's report as one line of JSON.")
    ] = False,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Give ended, idle and orphan streams a TTL, and take away what dead pods left in Redis.

    The same as the operator does, without Kubernetes. Pods are known by their leases alone: a pod
    without a lease counts as dead, and while no gateway runs none does. It can be stopped at any
    time, and run beside an operator.

    A TIME is seconds, or a number with s, m, h or d behind it. What is kept for 0 is kept forever.

    Exit code: 0 done, 1 Redis could not be used, 2 refused, 130 Ctrl-C.

    **Examples**

    `tidegate-operator sweep --once --dry-run --redis redis://redis:6379/0`

    `tidegate-operator sweep --once --redis redis://redis:6379/0 --finished 30m --failed 7d`

    `tidegate-operator sweep --uninstall --redis redis://redis:6379/0`

    `tidegate-operator sweep --once --json --gateway gateway.yaml | jq .streams`
    """
    import asyncio

    from tidegate.model.errors import InvalidInput, RedisUnavailable, SettingsError, TidegateError
    from tidegate.telemetry.logs import configure_logs
    from tidegate_operator.cli.views import view_for
    from tidegate_operator.redis.leases import GatewayRuns

    settings = options.load(
        {"--redis": redis, "--prefix": prefix}, assignments=assignments, config=config
    ).settings
    configure_logs(settings.log)
    try:
        flags = {
            "ttl": {
                "finishedS": _seconds(finished, "--finished"),
                "failedS": _seconds(failed, "--failed"),
                "idleS": _seconds(idle, "--idle"),
                "orphanS": _seconds(orphan, "--orphan"),
            },
            "trim": {"finishedEntries": keep},
            "pace": {
                "commandsPerS": commands_per_s,
                "intervalS": _seconds(interval, "--interval"),
            },
            "memory": {"limitBytes": memory_limit},
            "prefix": prefix,
            "dryRun": dry_run or None,
        }
        streams = _streams(settings, gateway, flags)
        wait_s = _seconds(wait, "--wait") or 0
    except InvalidInput as error:
        fail(error.reason, REFUSED)
    view = view_for(as_json=as_json, is_terminal=stderr().is_terminal and sys.stderr.isatty())
    try:
        with view:
            if uninstall:
                work = _uninstall(settings, streams, view, wait_s=wait_s, patience_s=patience_s)
            else:
                work = _sweep(settings, streams, view, once=once, patience_s=patience_s)
            asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except SettingsError as error:
        fail(str(error), REFUSED)
    except GatewayRuns as error:
        fail(str(error), FAILED)
    except TidegateError as error:
        text = error.detail if isinstance(error, RedisUnavailable) else str(error)
        fail(f"{text}; completed changes are kept, run it again", FAILED)


async def _sweep(
    settings: Settings, streams: Streams, view: SweepView, *, once: bool, patience_s: float
) -> None:
    import asyncio

    from tidegate_operator.redis.sweep import StreamSweeper

    topology, redis_settings = _open(settings, streams)
    sweep = StreamSweeper(topology, redis_settings, lease_s=settings.slots.lease_s)
    try:
        while True:
            report = await sweep.round(
                streams, patience_s=patience_s, on_tick=lambda: view.show(sweep.progress())
            )
            view.finish(report)
            if once:
                return
            await asyncio.sleep(streams.pace.interval_s)
    finally:
        await sweep.close()
        await topology.close()


async def _uninstall(
    settings: Settings, streams: Streams, view: SweepView, *, wait_s: float, patience_s: float
) -> None:
    from tidegate_operator.redis.removal import GatewayRemoval

    topology, redis_settings = _open(settings, streams)
    removal = GatewayRemoval(topology, redis_settings, lease_s=settings.slots.lease_s)
    try:
        report = await removal.run(
            streams,
            wait_s=wait_s,
            patience_s=patience_s,
            on_tick=lambda: view.show(removal.sweep.progress()),
        )
        view.finish(report)
    finally:
        await removal.close()
        await topology.close()


def _open(settings: Settings, streams: Streams) -> tuple[Topology, RedisSettings]:
    from tidegate.redis.address import parse_address
    from tidegate.redis.topology import Topology

    # What the gateway keeps beside its streams is named after these two.
    own = {"key_prefix": streams.prefix, "group": streams.group}
    redis_settings = settings.redis.model_copy(update=own)
    return Topology(parse_address(redis_settings), redis_settings), redis_settings


def _streams(settings: Settings, gateway: Path | None, flags: dict[str, Any]) -> Streams:
    """`spec.streams` of the file, or what the gateway's settings say; flags put over it."""
    from tidegate.model.errors import InvalidInput
    from tidegate_operator.model.gateway import read_spec

    if flags["prefix"] is not None and _PREFIX.fullmatch(flags["prefix"]) is None:
        raise InvalidInput(
            "--prefix",
            "--prefix: must be 4 to 128 characters of A-Z a-z 0-9 _ . : @ ~ + = / # -. It is taken "
            "as it is, and never as a pattern that could match the keys of others",
        )
    if gateway is None:
        topic = settings.topic
        given: dict[str, Any] = {
            "prefix": settings.redis.key_prefix,
            "group": settings.redis.group,
            "terminalStatuses": topic.terminal_statuses,
            "terminalTypes": topic.terminal_types,
        }
    else:
        given = _of_file(gateway)
    for name, value in flags.items():
        if isinstance(value, dict):
            inner = {key: one for key, one in value.items() if one is not None}
            if inner:
                given = {**given, name: {**_mapping(given, name, f"streams.{name}"), **inner}}
        elif value is not None:
            given = {**given, name: value}
    return read_spec({"target": {"name": "unused"}, "streams": given}, strict=True).streams


def _mapping(given: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    from tidegate.model.errors import InvalidInput

    value = given.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidInput(name, f"--gateway: spec.{path} must be an object")
    return value


def _of_file(path: Path) -> dict[str, Any]:
    import yaml

    from tidegate.model.errors import InvalidInput

    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
        if len(raw) > FILE_MAX_BYTES:
            raise InvalidInput("--gateway", f"{path}: is larger than {FILE_MAX_BYTES} bytes")
        body = yaml.safe_load(raw)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput("--gateway", f"{path}: cannot be read: {reason}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("--gateway", f"{path}: is not YAML: {error}") from None
    if isinstance(body, dict) and "kind" in body:
        body = body.get("spec")
    if not isinstance(body, dict):
        raise InvalidInput("--gateway", f"{path}: must be a Gateway resource, or its spec")
    return _mapping(body, "streams", "streams")


def _seconds(text: str | None, flag: str) -> int | None:
    from tidegate.model.errors import InvalidInput

    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInput(flag, f"{flag}: must be a time such as 90s, 30m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]
