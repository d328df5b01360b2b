"""The process: kopf watches Gateways, `loops` does the work.

kopf's part is small on purpose. Its handlers are edges, and what has to be done is a matter of the
state, so a change only wakes the loops, which look at everything again. No daemon and no finalizer
is ever needed: a namespace can be deleted whatever happens to the operator.

kopf has a thread and an event loop of its own: it ends, with all tasks of its loop, when the
definition of Gateways is deleted, and must not take the leader's work with it. A watch that ended
delays what a round would find anyhow, and begins again as soon as there is something to watch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import kopf
import structlog

from tidegate.core.backoff import Backoff
from tidegate.telemetry.logs import configure_logs
from tidegate_operator.kube.client import connect
from tidegate_operator.kube.errors import KubeError
from tidegate_operator.loops.replica import Operator
from tidegate_operator.model.gateway import GROUP, PLURAL, VERSION
from tidegate_operator.settings import OperatorSettings

log = structlog.get_logger(__name__)

#: Delays before a watch that ended begins again, and between two looks for the definition.
WATCH_AGAIN_MIN_S, WATCH_AGAIN_MAX_S = 0.5, 5.0
#: A watch that lived so long was a good one.
WATCH_LASTED_S = 60.0


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
    # How it ends is told by us; these add tracebacks, and that signals are ours.
    for name in ("kopf._core.reactor.orchestration", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # for kopf's login
    kube = connect(
        settings.kubeconfig,
        settings.namespace,
        timeout_s=settings.api_timeout_s,
        pod=settings.own_pod,
    )
    operator = Operator(settings, kube)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    watch = GatewayWatch(settings, operator)
    watching = asyncio.create_task(watch.run(), name="watch")
    try:
        await operator.run()
    finally:
        watch.stop()
        await asyncio.wait({watching})
        await kube.close()


class GatewayWatch:
    """Wakes the operator when a Gateway changes. `run` until `stop`."""

    def __init__(self, settings: OperatorSettings, operator: Operator) -> None:
        self._settings = settings
        self._operator = operator
        self._home = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        #: Of the thread that runs now; None: none does.
        self._kopf: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def stop(self) -> None:
        """End. Any number of times."""
        self._stopping.set()
        if self._kopf is not None:
            loop, flag = self._kopf
            with suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(flag.set)

    async def run(self) -> None:
        """Watch, and again whenever that ended, as long as Gateways are served."""
        backoff = Backoff(WATCH_AGAIN_MIN_S, WATCH_AGAIN_MAX_S)
        while not self._stopping.is_set():
            if await self._is_served():
                began = self._home.time()
                try:
                    await asyncio.to_thread(asyncio.run, self._watch())
                except Exception as error:  # noqa: BLE001 - kopf's are private; rounds go on
                    log.warning("watch of gateways ended", reason=str(error) or repr(error))
                if self._home.time() - began > WATCH_LASTED_S:
                    backoff.reset()
            try:
                async with asyncio.timeout(backoff.next_s()):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _is_served(self) -> bool:
        try:
            return await self._operator.is_served()
        except KubeError:
            return False  # another time; the rounds say so

    async def _watch(self) -> None:
        """kopf, in its own thread. Raises what ended it."""
        flag = asyncio.Event()
        self._kopf = (asyncio.get_running_loop(), flag)
        try:
            if self._stopping.is_set():
                return
            await kopf.operator(
                registry=_registry(self._wake, from_file=self._settings.kubeconfig is not None),
                settings=_settings(),
                namespaces=[self._settings.namespace],
                standalone=True,
                # Else kopf looks up the name of its user, which an image need not have.
                identity=cast("Any", self._settings.identity),
                stop_flag=flag,
            )
        finally:
            self._kopf = None

    def _wake(self) -> None:
        self._home.call_soon_threadsafe(self._operator.wake)


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


def _registry(wake: Callable[[], None], *, from_file: bool) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """Again after each 401, so a rotated token is read from its file."""
        account = None if from_file else kopf.login_with_service_account(**kwargs)
        return account or kopf.login_with_kubeconfig(**kwargs)

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
        wake()

    return registry
