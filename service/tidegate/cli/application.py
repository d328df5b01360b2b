"""What the commands `tidegate` and `tidegate-operator` are made of; each names its own below it."""

# No `from __future__ import annotations`: typer could not find `show` by its name.

from typing import Annotated

import typer


def new_application(name: str, about: str) -> typer.Typer:
    """A command with `--help` and `--version`, to which others are added.

    Args:
        about: Markdown for `--help`.
    """
    app = typer.Typer(
        name=name,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        # A plain traceback: the decorated one is long, and its locals may hold secrets.
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show(asked: bool) -> None:
        if asked:
            from tidegate import __version__
            from tidegate.core.compiled import engine

            typer.echo(f"{name} {__version__} ({engine()})")
            raise typer.Exit

    @app.callback(help=about)
    def options(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=show,
                is_eager=True,
                help="Show the version, and whether it is compiled.",
            ),
        ] = False,
    ) -> None:
        """Nothing of its own."""

    return app
