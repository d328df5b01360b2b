"""The process: kopf watches Gateways and owns the life cycle, `loops` does the work.

kopf's part is small on purpose. Its handlers are edges, and what has to be done is a matter of the
state, so a change only wakes the loops, which look at everything again. They run in one task of the
process, begun and ended with kopf's start-up and clean-up, so no daemon and no finalizer is ever
needed: a namespace can be deleted whatever happens to the operator.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, cast

import kopf
import structlog

from tidegate.telemetry.logs import configure_logs
from tidegate_operator.kube.client import connect
from tidegate_operator.loops.replica import Operator
from tidegate_operator.model.gateway import GROUP, PLURAL, VERSION
from tidegate_operator.settings import OperatorSettings

log = structlog.get_logger(__name__)


async def operate(settings: OperatorSettings) -> None:
    """Run one replica until SIGTERM or SIGINT.

    Raises:
        SettingsError: nothing says where the API server is.
        TidegateError: the port is taken, or a loop is stuck.
    """
    configure_logs(settings.logs)
    # They tell each event and each request; what matters comes with our own lines.
    for name in ("kopf", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # for kopf's login
    kube = connect(
        settings.kubeconfig,
        settings.namespace,
        timeout_s=settings.api_timeout_s,
        pod=settings.own_pod,
    )
    operator = Operator(settings, kube)
    ended = asyncio.Event()
    try:
        work = asyncio.ensure_future(operator.run())
        work.add_done_callback(lambda _: ended.set())
        await kopf.operator(
            registry=_registry(operator, work, from_file=settings.kubeconfig is not None),
            settings=_settings(),
            namespaces=[settings.namespace],
            standalone=True,
            # Else kopf looks up the name of its user, which an image need not have.
            identity=cast("Any", settings.identity),
            stop_flag=ended,
        )
        operator.stop()
        await work
    finally:
        await kube.close()


def _settings() -> kopf.OperatorSettings:
    """kopf's settings, each for a reason."""
    made = kopf.OperatorSettings()
    made.scanning.disabled = True  # a namespaced Role cannot watch CRDs and namespaces
    made.peering.standalone = True  # the Lease decides who acts
    made.posting.enabled = False  # events are few, and ours
    made.persistence.finalizer = f"{GROUP}/finalizer"  # never written; not kopf's name if it were
    made.networking.connect_timeout = 5
    made.networking.request_timeout = 30
    # A watch ends now and then, so that a silent one does not last.
    made.watching.server_timeout = 300
    made.watching.client_timeout = 330
    made.execution.default_backoff = 15
    made.process.ultimate_exiting_timeout = None  # Kubernetes kills what does not end
    return made


def _registry(
    operator: Operator, work: asyncio.Future[None], *, from_file: bool
) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """Again after each 401, so a rotated token is read from its file."""
        account = None if from_file else kopf.login_with_service_account(**kwargs)
        return account or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        operator.stop()
        await asyncio.wait({work})

    seen: dict[str, int] = {}

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(type: str | None, name: str, meta: Any, **_: Any) -> None:  # noqa: A002
        """A new generation or a deletion is looked at now; a status, ours, is no news."""
        generation = int(meta.get("generation", 0))
        if type == "DELETED":
            seen.pop(name, None)
        elif seen.get(name) == generation:
            return
        else:
            seen[name] = generation
        operator.wake()

    return registry
