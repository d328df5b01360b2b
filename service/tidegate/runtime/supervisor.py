"""The parent process of `tidegate serve --workers N`. It holds both ports, starts the workers,
replaces those that die, answers on the admin port for all of them, and stops them.

    starting --all workers serve--> serving --stop--> draining --all have exited--> stopped
    starting --a worker cannot start--> stopped, with the error of that worker

It serves no viewers and has no connection to Redis. Once all workers have served, one that exits
for any reason is replaced: at once the first time, then with exponential backoff. One that hangs is
killed (`runtime.worker_process`). Meanwhile its viewers reconnect to the other workers.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from prometheus_client.registry import Collector

from tidegate import __version__
from tidegate.core.backoff import Backoff
from tidegate.core.compiled import engine
from tidegate.core.exit_status import how_it_ended
from tidegate.core.workers import worker_name
from tidegate.model.errors import SettingsError, TidegateError
from tidegate.model.settings import Settings
from tidegate.runtime.descriptors import descriptor_limit
from tidegate.runtime.listening import WorkersPort, listen
from tidegate.runtime.server import Server
from tidegate.runtime.worker_process import WorkerProcess
from tidegate.telemetry.metric_merge import (
    Merged,
    MergedMetrics,
    records,
    rules_of,
)
from tidegate.telemetry.metric_table import TableCollector, new_process_registry
from tidegate.telemetry.metrics import RESTARTS, TABLE
from tidegate.web.admin.workers import (
    HEALTH,
    READINESS,
    AdminRequest,
    WorkerAnswer,
    workers_app,
)
from tidegate.web.server.http_protocol import bind_http
from tidegate.web.server.port import admin_port

log = structlog.get_logger(__name__)

#: Delay before a replacement is started. The first one is started at once, and a worker that ran
#: for `STEADY_S` resets the backoff.
BACKOFF_FIRST_S, BACKOFF_LONGEST_S = 1.0, 30.0
STEADY_S = 60.0
#: How much longer than its drain and its timeouts a worker may take to exit before it is killed.
GIVE_UP_S = 10.0


class Supervisor:
    """Runs the workers until `stop`. The admin port uses it as `web.admin.workers.Workers`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers: dict[int, WorkerProcess] = {}
        self._started = time.monotonic()
        self._metrics = MergedMetrics(rules_of(TABLE))
        self._restarts = 0
        self._admin_port = admin_port(settings, descriptor_limit())
        numbers = self._numbers()
        own = TableCollector((row for row in TABLE if row.name in numbers), self._numbers)
        self._own = new_process_registry(own)
        #: Set when no more workers are started. `_hurry`: they are not to wait for their viewers.
        self._stopping = asyncio.Event()
        self._hurry = False
        self._complete = asyncio.Event()
        #: Incarnations of dead workers, and when their leases expire (monotonic time).
        self._dead_leases: dict[str, float] = {}
        self._failure: TidegateError | None = None

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            TidegateError: a port is in use, or a worker cannot start.
        """
        server = self._settings.server
        lowat = self._settings.viewer.notsent_lowat_bytes
        with (
            WorkersPort(server.host, server.port, "server.port", lowat) as public,
            listen(server.admin_host, server.admin_port, "server.admin_port", lowat) as admin,
        ):
            answering = self._admin_server()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(answering.serve(admin), name="admin")
                numbers = range(1, server.workers + 1)
                kept = [
                    tasks.create_task(self._keep(number, public), name=f"worker {number}")
                    for number in numbers
                ]
                complete = tasks.create_task(self._complete.wait(), name="complete")
                stopping = tasks.create_task(self._stopping.wait(), name="stopping")
                await asyncio.wait([complete, stopping], return_when=asyncio.FIRST_COMPLETED)
                if not self._stopping.is_set():
                    log.info(
                        "serving",
                        version=__version__,
                        engine=engine(),
                        pod=server.pod,
                        workers=server.workers,
                        port=public.number,
                        admin_port=admin.getsockname()[1],
                    )
                complete.cancel()
                await stopping
                await asyncio.wait(kept, timeout=self._patience_s())
                for worker in self._workers.values():
                    log.warning("worker did not exit in time; killed", worker=worker.number)
                    worker.kill()
                await asyncio.wait(kept)
                answering.stop()
        if self._failure is not None:
            raise self._failure
        log.info("stopped")

    def stop(self) -> None:
        """Drain and stop all workers. A second call ends the drain."""
        self._hurry = self._stopping.is_set()
        self._stopping.set()
        for worker in self._workers.values():
            worker.stop(hurry=self._hurry)

    # -- workers -----------------------------------------------------------------------------------

    async def _keep(self, number: int, port: WorkersPort) -> None:
        """Keep a worker with this number running until `stop`."""
        backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_LONGEST_S)
        wait_s = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            ended = await self._run_one(number, port)
            if self._stopping.is_set():
                return
            if not self.has_been_complete:
                self._fail(ended)
                return
            self._restarts += 1
            if time.monotonic() - began >= STEADY_S:
                backoff.reset()
                wait_s = 0.0
            name = worker_name(self._settings.server.pod, number)
            log.error("worker replaced", worker=name, reason=str(ended), after_s=wait_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            except TimeoutError:
                pass
            wait_s = backoff.next_s()

    async def _run_one(self, number: int, port: WorkersPort) -> TidegateError:
        """Run one worker until it exits, and return the reason as an error."""
        try:
            worker = await WorkerProcess.start(self._settings, number, port)
        except TidegateError as error:
            return error
        except OSError as error:
            return TidegateError(f"worker {number} cannot be started: {error}")
        self._workers[number] = worker
        if self._stopping.is_set():
            worker.stop(hurry=self._hurry)
        watch = asyncio.create_task(worker.watch(), name=f"watch of worker {number}")
        try:
            status = await worker.run(self._serves, self._patience_s())
        finally:
            watch.cancel()
            worker.kill()
            del self._workers[number]
            self._metrics.ended(number)
        # Releasing a lease that the worker has released itself has no effect.
        until = time.monotonic() + self._settings.slots.lease_s
        self._dead_leases |= dict.fromkeys(worker.incarnations, until)
        self._end_leases()
        refused = worker.refused
        if refused is None:
            return TidegateError(f"worker {number} {how_it_ended(status)}")
        if refused.by_settings:
            return SettingsError(tuple(refused.text.splitlines()))
        return TidegateError(refused.text)

    def _serves(self) -> None:
        if len(self._serving()) == self.count:
            self._complete.set()
        self._end_leases()

    def _end_leases(self) -> None:
        """The slots of a dead worker count until its lease expires, so it is released at once: by
        every worker that serves, and those that serve later, because one of them may hang or die.
        """
        now = time.monotonic()
        self._dead_leases = {one: until for one, until in self._dead_leases.items() if until > now}
        if self._dead_leases:
            for worker in self._serving():
                worker.end_leases(list(self._dead_leases))

    def _fail(self, failure: TidegateError) -> None:
        """The start has failed: keep the first error, and stop the other workers at once."""
        self._failure = self._failure or failure
        self.stop()
        self.stop()

    def _serving(self) -> list[WorkerProcess]:
        return [worker for _, worker in sorted(self._workers.items()) if worker.is_serving]

    def _patience_s(self) -> float:
        drain = self._settings.drain
        timeouts = self._settings.server.shutdown_timeout_s + self._settings.redis.reply_timeout_s
        return drain.delay_s + drain.window_s + timeouts + GIVE_UP_S

    # -- the admin port ----------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """See `Workers`."""
        return self._settings.server.workers

    @property
    def has_been_complete(self) -> bool:
        """See `Workers`."""
        return self._complete.is_set()

    @property
    def uptime_s(self) -> float:
        """See `Workers`."""
        return time.monotonic() - self._started

    async def ask_each(self, request: AdminRequest) -> dict[int, WorkerAnswer | None]:
        """See `Workers`."""
        workers = self._serving()
        redis_s = self._redis_s(request)
        answers = await asyncio.gather(*(worker.ask(request, redis_s) for worker in workers))
        return {
            worker.number: answer
            for worker, answer in zip(workers, answers, strict=True)
            # A worker that has exited meanwhile is left out: it does not hang.
            if answer is not None or worker.is_serving
        }

    async def ask_one(self, request: AdminRequest) -> WorkerAnswer | None:
        """See `Workers`."""
        workers = sorted(self._serving(), key=lambda worker: worker.is_silent)
        return await workers[0].ask(request, self._redis_s(request)) if workers else None

    async def metrics(self) -> Collector:
        """See `Workers`."""
        workers = self._serving()
        scraped = await asyncio.gather(*(worker.scrape() for worker in workers))
        for worker, families in zip(workers, scraped, strict=True):
            if families is not None and worker.is_serving:
                self._metrics.update(worker.number, families)
        return Merged(self._metrics.together(records(self._own)))

    def _numbers(self) -> dict[str, int | dict[str, int]]:
        """What workers do not count, by the name of the metric."""
        port = self._admin_port
        return {
            RESTARTS.name: self._restarts,
            "tidegate_sockets": {"admin": port.open},
            "tidegate_refusals_total": {"admin_port": port.refusals.total()},
        }

    def _redis_s(self, request: AdminRequest) -> float:
        """What Redis may take for it."""
        is_local = request.path in (HEALTH, READINESS)
        return 0 if is_local else self._settings.redis.reply_timeout_s

    def _admin_server(self) -> Server:
        settings = self._settings
        app = workers_app(self, settings.server.pod, metrics_enabled=settings.metrics.enabled)
        return Server(app, settings, bind_http(self._admin_port))
