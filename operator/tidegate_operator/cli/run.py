"""``tidegate-operator run``: one replica of the operator, until SIGTERM or SIGINT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.console import failures_told

Text = str | None


def run(
    namespace: Annotated[
        Text, typer.Option(help="Namespace to serve; in a pod its own is the default.")
    ] = None,
    identity: Annotated[
        Text, typer.Option(help="Name of this replica; the host's name is the default.")
    ] = None,
    lease: Annotated[Text, typer.Option(help="Name of the Lease.")] = None,
    redis: Annotated[
        Text,
        typer.Option(
            metavar="URL", help="Redis of the gateways whose `spec.redis` does not name one."
        ),
    ] = None,
    host: Annotated[Text, typer.Option(help="Address of health and metrics.")] = None,
    port: Annotated[Text, typer.Option(help="Port of health and metrics.")] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Kubeconfig for the API server, instead of the service account.",
        ),
    ] = None,
    log_level: Annotated[Text, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run one replica of the operator. Of several with the same Lease one acts, the others wait.

    What is not given by a flag may be given by a variable `TIDEGATE_OPERATOR_<FIELD>`, such as
    `TIDEGATE_OPERATOR_INTERVAL_S=2`. A wrong setting stops the start with exit code 2.

    **Examples**

    `tidegate-operator run --namespace tidegate`

    `tidegate-operator run --namespace tidegate --kubeconfig ~/.kube/config --redis redis://127.0.0.1`
    """
    import asyncio

    from tidegate_operator.handlers import operate
    from tidegate_operator.settings import load_settings

    with failures_told():
        settings = load_settings(
            {
                "namespace": namespace,
                "identity": identity,
                "lease": lease,
                "redis_url": redis,
                "host": host,
                "port": port,
                "kubeconfig": kubeconfig,
                "log_level": log_level,
            }
        )
        asyncio.run(operate(settings))
