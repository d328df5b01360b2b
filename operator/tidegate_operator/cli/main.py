"""The ``tidegate-operator`` command: names its commands, nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate_operator.cli.crd import crd
from tidegate_operator.cli.run import run
from tidegate_operator.cli.simulate import simulate
from tidegate_operator.cli.sweep import sweep

app = typer.Typer(
    name="tidegate-operator",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A plain traceback: the decorated one is long, and its locals may hold secrets.
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from tidegate import __version__

        typer.echo(f"tidegate-operator {__version__}")
        raise typer.Exit


@app.callback()
def _operator(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """The Kubernetes operator of Tidegate: scales gateways, and cleans up after them in Redis."""


app.command()(run)
app.command()(simulate)
app.command()(sweep)
app.command()(crd)


if __name__ == "__main__":
    app(prog_name="tidegate-operator")
