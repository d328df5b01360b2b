"""``tidegate size``: what an installation needs for an expected load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli.console import FAILED, REFUSED, fail, stdout

if TYPE_CHECKING:
    from tidegate.cli.size_limits import Use
    from tidegate.cli.size_plan import Load, Plan

_LOAD = "Load"
_INSTALLATION = "Installation"


def size(
    viewers: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000_000,
            help="Connections at the busiest time: browser tabs, not users.",
            rich_help_panel=_LOAD,
        ),
    ],
    operations: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000_000,
            help="Operations that run and have viewers at that time.",
            rich_help_panel=_LOAD,
        ),
    ],
    entries_per_second: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=10_000_000,
            help="Entries appended per second, over all operations.",
            rich_help_panel=_LOAD,
        ),
    ],
    entry_bytes: Annotated[
        int,
        typer.Option(min=1, max=1_000_000, help="Average size of an entry.", rich_help_panel=_LOAD),
    ] = 200,
    watches: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000,
            help="Operations that each connection is subscribed to.",
            rich_help_panel=_LOAD,
        ),
    ] = 1,
    kept_operations: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1_000_000_000,
            help="Streams kept in Redis, finished ones included; default: --operations.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    kept_entries: Annotated[
        int,
        typer.Option(
            min=1, max=10_000_000, help="Entries kept of each stream.", rich_help_panel=_LOAD
        ),
    ] = 1_000,
    connections_per_replica: Annotated[
        int,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Connections that one replica may have (scaling.connectionsPerPod).",
            rich_help_panel=_INSTALLATION,
        ),
    ] = 10_000,
    core_share: Annotated[
        float,
        typer.Option(
            min=0.05,
            max=0.9,
            help="Share of its core that a replica may use for this; the rest is for connects, "
            "history and bursts.",
            rich_help_panel=_INSTALLATION,
        ),
    ] = 0.5,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Worker processes of each machine or pod (server.workers).",
            rich_help_panel=_INSTALLATION,
        ),
    ] = 1,
    spare: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="Replicas that may be missing without overload; with --workers, machines or pods.",
            rich_help_panel=_INSTALLATION,
        ),
    ] = 1,
    cpu_scale: Annotated[
        float,
        typer.Option(
            min=0.05,
            max=20.0,
            help="CPU of your machine for the same work, relative to the measured one; "
            "`python -m bench.size` prints it.",
            rich_help_panel=_INSTALLATION,
        ),
    ] = 1.0,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Compute the load of this number, and which limit is reached first, instead of "
            "how many are needed.",
            rich_help_panel=_INSTALLATION,
        ),
    ] = None,
    primaries: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000,
            help="Primaries of the Redis Cluster; default: as many as are needed.",
            rich_help_panel=_INSTALLATION,
        ),
    ] = None,
    crowd: Annotated[
        int,
        typer.Option(
            min=0,
            max=100_000_000,
            help="How many of the viewers watch the same operation.",
            rich_help_panel=_LOAD,
        ),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: load, plan, limits.")
    ] = False,
) -> None:
    """Estimate replicas, CPU, memory, connections and bandwidth for an expected load.

    Each entry is sent to each viewer of its operation: 10,000 viewers of 1,000 operations with
    2,000 entries per second are 20,000 frames per second. The estimate uses figures that were
    measured on one machine (docs/sizing.md has them, and their accuracy). It is for planning a
    first installation, and does not replace a load test.

    Exit code: 0 an estimate; 1 no number of replicas is enough; 2 wrong usage.

    **Examples**

    `tidegate size --viewers 10000 --operations 1000 --entries-per-second 2000`

    `tidegate size --viewers 500 --operations 200 --entries-per-second 100 --spare 0 --json`

    `tidegate size --viewers 2000 --operations 20000 --watches 10 --entries-per-second 500` for
    pages that show a list of ten operations each

    `tidegate size --viewers 1000000 --operations 100000 --entries-per-second 10000 --replicas 100
    --primaries 32 --crowd 1000000` to see which limit is reached first
    """
    from tidegate.cli.size_plan import Load, LoadTooLarge, size_plan
    from tidegate.model.errors import InvalidInput

    given: dict[str, Any] = {
        "viewers": viewers,
        "operations": operations,
        "entries_per_second": entries_per_second,
        "entry_bytes": entry_bytes,
        "watches": watches,
        "kept_operations": kept_operations,
        "kept_entries": kept_entries,
        "connections_per_replica": connections_per_replica,
        "core_share": core_share,
        "spare_replicas": spare,
        "cpu_scale": cpu_scale,
        "workers": workers,
        "replicas": replicas,
        "primaries": primaries,
        "crowd": crowd,
    }
    try:
        load = Load(**given)
        plan = size_plan(load)
    except InvalidInput as error:
        fail(str(error), REFUSED)
    except LoadTooLarge as error:
        fail(str(error), FAILED)
    if as_json:
        import json
        from dataclasses import asdict

        limits = [asdict(one) | {"share": one.share} for one in _uses(load, plan)]
        document = {"load": asdict(load), "plan": asdict(plan), "limits": limits}
        typer.echo(json.dumps(document, indent=2))
    else:
        _print(load, plan)
        if replicas is not None:
            _print_limits(_uses(load, plan))


def _print(load: Load, plan: Plan) -> None:
    replica, redis = plan.replica, plan.redis
    # Connections of a replica while none is missing; its size is computed for when some are.
    usual = -(-load.viewers // plan.replicas)
    spare_replicas = load.spare_replicas * load.workers
    spare = f", {spare_replicas} of them spare" if spare_replicas else ""
    by = {"cpu": "CPU", "connections": "connections", "given": "the number given"}[plan.limit]
    lines: list[tuple[str, str, str]] = [
        ("replicas", f"{plan.replicas:,}", f"the limit is {by}{spare}"),
        ("frames sent", f"{plan.deliveries_per_second:,.0f}/s", "by all replicas together"),
        ("each replica", "", ""),
        ("  connections", f"{replica.connections:,}", f"{usual:,} while all replicas are there"),
        ("  operations", f"{replica.followed_operations:,}", ""),
        ("  CPU", f"{replica.cpu:.2f} cores", ""),
        ("  CPU request", f"{replica.cpu_request:.1f}", "no limit: throttling delays all viewers"),
        ("  memory request", _memory(replica.memory_request_bytes), ""),
        ("  memory limit", _memory(replica.memory_limit_bytes), ""),
        ("  sends", _bits(replica.sent_bits_per_second), "to viewers, TLS included"),
        ("  receives", _bits(replica.received_bits_per_second), "from Redis"),
        ("Redis", "", ""),
        ("  CPU", f"{redis.cpu:.2f} cores", f"{redis.primaries:,} {_primaries(redis.primaries)}"),
        ("  memory", _memory(redis.memory_bytes), "keys; add what forks and replicas need"),
        ("  connections", f"{redis.connections:,}", "of the gateway, without publishers"),
        ("  sends", _bits(redis.sent_bits_per_second), "to replicas"),
    ]
    groups = plan.groups
    if groups.workers > 1:
        lines[1:1] = [
            ("machines or pods", f"{groups.count:,}", f"with {groups.workers} workers each"),
            ("  CPU request", f"{groups.cpu_request:.1f}", ""),
            ("  memory request", _memory(groups.memory_request_bytes), ""),
            ("  memory limit", _memory(groups.memory_limit_bytes), ""),
        ]
    if groups.count > 1:
        took = "at once" if plan.reconnect_s < 1 else f"in {plan.reconnect_s:,.0f} s at full speed"
        what = "replica" if groups.workers == 1 else "machine"
        lines.append((f"if a {what} fails", took, "its viewers reconnect to the others"))
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for line in lines:
        table.add_row(*line)
    stdout().print(table)


def _uses(load: Load, plan: Plan) -> list[Use]:
    from tidegate.cli.size_limits import uses

    return uses(load, plan.replicas, plan.redis.primaries)


def _print_limits(found: list[Use]) -> None:
    """Each resource and how much of its limit is used, the highest share first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    table.add_row("used, of the limit", "", "")
    for use in found:
        style = "bold red" if use.share > 1 else ""
        table.add_row(f"  {use.resource}", f"{use.share:.0%}", f"mostly {use.mostly}", style=style)
    stdout().print(table)
    first = found[0]
    stdout().print(f"reached first: {first.resource}; remedy: {first.remedy}")


def _primaries(count: int) -> str:
    return "primary" if count == 1 else "primaries, as a Cluster"


def _memory(size: int) -> str:
    mebibytes = size / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_240 else f"{mebibytes / 1_024:,.1f} GiB"


def _bits(per_second: float) -> str:
    return f"{per_second / 1e6:,.1f} Mbit/s"
