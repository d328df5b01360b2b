"""``tidegate-operator crd``: the CustomResourceDefinition as YAML."""

from __future__ import annotations

import typer


def crd() -> None:
    """Print the CustomResourceDefinition of `Gateway`.

    `tidegate-operator crd | kubectl apply --server-side -f -` brings the one in a cluster up to
    date: Helm installs it once and never changes it.
    """
    from tidegate_operator.model.schema import crd_yaml

    typer.echo(crd_yaml(), nl=False)
