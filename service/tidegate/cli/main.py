"""The ``tidegate`` command: names its commands, nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.publish import publish
from tidegate.cli.run import run
from tidegate.cli.serve import serve
from tidegate.cli.settings_command import settings
from tidegate.cli.top import top
from tidegate.cli.watch import watch

app = typer.Typer(
    name="tidegate",
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

        typer.echo(f"tidegate {__version__}")
        raise typer.Exit


@app.callback()
def _tidegate(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Tidegate: watch long-running operations live, from a Redis Stream, on any number of replicas.

    **Try it**

    `tidegate run` starts an embedded server, two replicas and a demo backend

    `tidegate publish 42 '{"progress": 0.5}'` appends one update, as any backend would with XADD

    `tidegate watch 42` follows the operation, through the death of a replica too

    `tidegate top` shows what each replica does, and the busiest operations

    **For real**

    `tidegate serve --auth none --redis redis://redis:6379/0` is one replica of the gateway
    """


app.command()(run)
app.command()(serve)
app.command()(publish)
app.command()(watch)
app.command()(top)
app.command()(settings)


if __name__ == "__main__":
    app(prog_name="tidegate")
