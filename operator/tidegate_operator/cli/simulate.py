"""``tidegate-operator simulate``: a load trace through the decisions that scale a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli.console import REFUSED, fail, stdout

if TYPE_CHECKING:
    from tidegate_operator.model.gateway import GatewaySpec
    from tidegate_operator.simulate.replay import Replay, World
    from tidegate_operator.simulate.trace import Point

#: A trace of 100,000 rows has about 3 MB.
FILE_MAX_BYTES = 32 * 1_048_576
_WORLD = "What is simulated"
_SPEC = "The gateway"


def simulate(
    trace: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME",
            help="CSV or JSON lines, `-` for standard input; or one of `step`, `ramp`, "
            "`flash-crowd`, `daily-wave`, `flapping-metric`, `missing-metric`.",
        ),
    ],
    gateway: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A Gateway resource as YAML; without it all defaults.",
            rich_help_panel=_SPEC,
        ),
    ] = None,
    least: Annotated[
        int | None, typer.Option("--min", help="scaling.min", rich_help_panel=_SPEC)
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", help="scaling.max", rich_help_panel=_SPEC)
    ] = None,
    connections_per_pod: Annotated[
        int | None, typer.Option(help="scaling.connectionsPerPod", rich_help_panel=_SPEC)
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000,
            help="Pods at the beginning; 0: as many as the load needs.",
            rich_help_panel=_WORLD,
        ),
    ] = 0,
    start_s: Annotated[
        float,
        typer.Option(
            "--start",
            min=0,
            max=3_600,
            help="Seconds until a pod is ready.",
            rich_help_panel=_WORLD,
        ),
    ] = 20.0,
    drain_s: Annotated[
        float,
        typer.Option(
            "--drain", min=0, max=3_600, help="Seconds that a pod drains.", rich_help_panel=_WORLD
        ),
    ] = 30.0,
    interval_s: Annotated[
        float,
        typer.Option(
            "--interval",
            min=5,
            max=120,
            help="Seconds between two decisions.",
            rich_help_panel=_WORLD,
        ),
    ] = 5.0,
    balancer: Annotated[
        str,
        typer.Option(
            help="Where new connections go: `turn`, each pod in turn; `least`, the emptiest pod.",
            rich_help_panel=_WORLD,
        ),
    ] = "turn",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object with all decisions, for programs.")
    ] = False,
) -> None:
    """Replay a load trace through the operator's own decisions, and draw replicas against load.

    Nothing real is touched. A trace has the columns `t` (seconds) and `connections`, and may have
    `deliveries_per_s`, `loop_lag_ms`, `undispatched` and `leases` (part of the pods that tell
    their figures, 0 to 1); an empty cell is a figure that was missing.

    **Examples**

    `tidegate-operator simulate --trace flash-crowd --max 20`

    `tidegate-operator simulate --trace monday.csv --gateway gateway.yaml --json`
    """
    from tidegate.model.errors import InvalidInput
    from tidegate_operator.simulate.cluster import Balancer
    from tidegate_operator.simulate.replay import World, replay

    if balancer not in tuple(Balancer):
        fail(f"--balancer: must be {' or '.join(Balancer)}, not {balancer[:40]!r}", REFUSED)
    world = World(
        interval_s=interval_s,
        start_s=start_s,
        drain_s=drain_s,
        balancer=Balancer(balancer),
        replicas=replicas,
    )
    flags = {"min": least, "max": most, "connectionsPerPod": connections_per_pod}
    try:
        spec = _spec(gateway, {name: value for name, value in flags.items() if value is not None})
    except InvalidInput as error:
        fail(error.reason, REFUSED)
    try:
        made = replay(spec, _trace(trace), world)
    except InvalidInput as error:
        fail(f"--trace: {error}", REFUSED)
    if as_json:
        _print_json(made)
    else:
        _print_chart(trace, spec, made, world)


def _trace(name: str) -> tuple[Point, ...]:
    from tidegate_operator.simulate.trace import BUILT_IN, built_in, read_trace

    if name in BUILT_IN:
        return built_in(name)
    return read_trace(_text(name, f"; or give one of {', '.join(BUILT_IN)}"))


def _spec(path: Path | None, scaling: dict[str, Any]) -> GatewaySpec:
    import yaml

    from tidegate.model.errors import InvalidInput
    from tidegate_operator.model.gateway import read_spec

    body: Any = {"target": {"name": "simulated"}}
    if path is not None:
        try:
            body = yaml.safe_load(_text(str(path), ""))
        except (yaml.YAMLError, RecursionError) as error:
            raise InvalidInput("--gateway", f"--gateway: is not YAML: {error}") from None
        # The whole resource, or its spec alone.
        if isinstance(body, dict) and "kind" in body:
            body = body.get("spec")
    if not isinstance(body, dict):
        raise InvalidInput("--gateway", "--gateway: must be a Gateway resource")
    if scaling:
        given = body.get("scaling") or {}
        if not isinstance(given, dict):
            raise InvalidInput("--gateway", "--gateway: spec.scaling must be an object")
        body = {**body, "scaling": {**given, **scaling}}
    return read_spec(body, strict=True)


def _text(name: str, hint: str) -> str:
    import sys

    from tidegate.model.errors import InvalidInput

    try:
        if name == "-":
            raw = sys.stdin.buffer.read(FILE_MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(FILE_MAX_BYTES + 1)
        if len(raw) > FILE_MAX_BYTES:
            raise InvalidInput(name, f"{name}: is larger than {FILE_MAX_BYTES} bytes")
        return raw.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(name, f"{name}: cannot be read: {reason}{hint}") from None
    except ValueError:
        raise InvalidInput(name, f"{name}: is not text in UTF-8") from None


def _print_json(made: Replay) -> None:
    import orjson

    decisions = [
        {
            "t_s": one.t_s,
            "load": one.load,
            "replicas": one.replicas,
            "serving": one.serving,
            "after": one.after,
            "known": one.known,
            "desired": one.decision.desired,
            "reason": one.decision.reason,
            "limited": one.decision.limited,
            "balance": one.decision.balance,
            "shed": sum(order.connections for order in one.decision.shed),
        }
        for one in made.samples
    ]
    body = {"summary": made.summary._asdict(), "decisions": decisions}
    typer.echo(orjson.dumps(body).decode())


def _print_chart(name: str, spec: GatewaySpec, made: Replay, world: World) -> None:
    from rich.table import Table

    from tidegate_operator.simulate.chart import LOAD, OVER, ROOM, chart

    console = stdout()
    per_pod = spec.scaling.connections_per_pod
    title = f"{name}: pods of {per_pod:,} connections, decided every {world.interval_s:g} s"
    console.print(title, style="bold", markup=False)
    for line in chart(made.samples, per_pod=per_pod, width=min(console.width, 120)):
        console.print(line, markup=False, no_wrap=True, overflow="crop")
    console.print(f"      {LOAD} load   {OVER} load above the target   {ROOM} room", markup=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    one = made.summary
    rows = {
        "replicas": f"{one.replicas_least} to {one.replicas_most}",
        "load at its peak": f"{one.load_peak:,} connections",
        "steps up, down": f"{one.ups}, {one.downs}; the largest of {one.step_max}",
        "direction changes within the window": f"{one.turns} times",
        "steps while figures were missing": str(one.blind_changes),
        "load above the target": f"{one.over_target_s:,.0f} s of {one.duration_s:,.0f} s",
        "pod hours": f"{one.pod_hours:,.1f}",
        "viewers that reconnected": f"{one.reconnects:,}, {one.shed:,} of them to even out",
    }
    for label, value in rows.items():
        table.add_row(label, value)
    console.print(table)
