"""``tidegate-operator crd``: the CustomResourceDefinition as YAML."""

from __future__ import annotations

from typing import Annotated

import typer


def crd(
    reference: Annotated[
        bool,
        typer.Option("--reference", help="All fields as Markdown tables, instead of the YAML."),
    ] = False,
) -> None:
    """Print the CustomResourceDefinition of `Gateway`.

    `tidegate-operator crd | kubectl apply --server-side --force-conflicts --field-manager=helm
    -f -` brings the one in a cluster up to date, which `helm upgrade` does not.
    """
    from tidegate_operator.model.reference import reference as tables
    from tidegate_operator.model.schema import crd_yaml

    typer.echo(tables() if reference else crd_yaml(), nl=False)
