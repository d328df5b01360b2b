"""The parent process of `tidegate serve --workers N`. It holds both ports, starts the workers,
replaces those that die, answers on the admin port for all of them, and stops them.

    starting --all workers serve--> serving --stop--> draining --all have exited--> stopped
    starting --a worker cannot start--> stopped, with the error of that worker

It serves no viewers and has no connection to Redis. Once all workers have served, one that exits
for any reason is replaced: at once the first time, then with exponential backoff. Meanwhile its
viewers reconnect to the other workers.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable

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
from tidegate.runtime.worker_channel import (
    CannotServe,
    Died,
    Leased,
    Request,
    Response,
    Scrape,
    Scraped,
    Serving,
    Start,
    Stop,
    WorkerChannel,
)
from tidegate.telemetry.metric_merge import (
    FamilyRecord,
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

#: Blocked in a worker until it has handlers for them.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Delay before a replacement is started. The first one is started at once, and a worker that ran
#: for `STEADY_S` resets the backoff.
BACKOFF_FIRST_S, BACKOFF_LONGEST_S = 1.0, 30.0
STEADY_S = 60.0
#: A worker that does not answer for this long, beyond what Redis may take for the request, is
#: considered to hang. One that is known to hang has only `SILENT_S`.
ANSWER_S = 5.0
SILENT_S = 1.0
#: How much longer than its drain and its timeouts a worker may take to exit before it is killed.
GIVE_UP_S = 10.0


class WorkerProcess:
    """One worker process, from start to exit."""

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, channel: WorkerChannel
    ) -> None:
        self.number = number
        self.process = process
        self.refused: CannotServe | None = None
        self.is_serving = False
        #: It did not answer in time, and has sent nothing since.
        self.is_silent = False
        #: The incarnation of its current lease, if it has one.
        self.incarnations: list[str] = []
        self._channel = channel
        self._waiting: dict[int, asyncio.Future[Response | Scraped]] = {}
        self._last_id = 0

    @classmethod
    async def start(cls, settings: Settings, number: int, port: WorkersPort) -> WorkerProcess:
        """Start the process and send it its settings.

        Raises:
            OSError: the process cannot be started.
            TidegateError: the address of the public port cannot be bound.
        """
        ours, theirs = socket.socketpair()
        with theirs, port.for_worker() as public:
            # Inherited, so that what is sent to all processes at once ends no worker on its way.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                process = await asyncio.create_subprocess_exec(
                    # -P: do not import from the working directory.
                    *(sys.executable, "-P", "-m", "tidegate.runtime.worker"),
                    *(worker_name(settings.server.pod, number), str(theirs.fileno())),
                    str(public.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), public.fileno()),
                )
            except BaseException:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        channel = await WorkerChannel.open(ours)
        path = [os.fsencode(folder) for folder in sys.path]
        channel.send(Start(number, path, pickle.dumps(settings)))
        return cls(number, process, channel)

    async def run(self, on_serving: Callable[[], None], patience_s: float) -> int:
        """Handle its messages until it has exited, and return the exit status.

        Args:
            on_serving: called when it starts to serve.
            patience_s: how long it may take to exit after its channel was closed; then it is
                killed. A worker that is still alive drains when the channel is closed.
        """
        while (message := await self._channel.receive()) is not None:
            self.is_silent = False
            match message:
                case Serving():
                    self.is_serving = True
                    on_serving()
                case CannotServe():
                    self.refused = message
                case Leased(incarnation):
                    self.incarnations = [incarnation]
                case Response(id=id_) | Scraped(id=id_):
                    waiting = self._waiting.pop(id_, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
        self.is_serving = False
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.cancel()
        self._channel.close()
        try:
            async with asyncio.timeout(patience_s):
                return await self.process.wait()
        except TimeoutError:
            self.kill()
            return await self.process.wait()

    def stop(self, *, hurry: bool) -> None:
        """Ask it to drain and exit; `hurry`: without waiting for its viewers."""
        self._channel.send(Stop(hurry))

    def end_leases(self, incarnations: list[str]) -> None:
        """Ask it to release the leases of workers that have died."""
        self._channel.send(Died(incarnations))

    def kill(self) -> None:
        """Send SIGKILL, unless it has exited."""
        if self.process.returncode is None:
            self.process.kill()

    async def ask(self, request: AdminRequest, patience_s: float) -> WorkerAnswer | None:
        """Its response to a request of the admin port; None if there is none in `patience_s`."""
        answer = await self._ask(lambda id_: Request(id_, *request), patience_s)
        if not isinstance(answer, Response):
            return None
        return WorkerAnswer(answer.status, answer.headers, answer.body)

    async def scrape(self) -> list[FamilyRecord] | None:
        """Its metrics; None if there is no answer in `ANSWER_S`."""
        answer = await self._ask(Scrape, ANSWER_S)
        return answer.families if isinstance(answer, Scraped) else None

    async def _ask(
        self, message: Callable[[int], Request | Scrape], patience_s: float
    ) -> Response | Scraped | None:
        if not self.is_serving or self._channel.is_full:
            return None
        self._last_id += 1
        id_ = self._last_id
        waiting = self._waiting[id_] = asyncio.get_running_loop().create_future()
        self._channel.send(message(id_))
        try:
            async with asyncio.timeout(SILENT_S if self.is_silent else patience_s):
                await asyncio.wait([waiting])
        except TimeoutError:
            self.is_silent = True
        finally:
            self._waiting.pop(id_, None)
        return waiting.result() if waiting.done() and not waiting.cancelled() else None


class Supervisor:
    """Runs the workers until `stop`. The admin port uses it as `web.admin.workers.Workers`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers: dict[int, WorkerProcess] = {}
        self._started = time.monotonic()
        self._metrics = MergedMetrics(rules_of(TABLE))
        self._restarts = 0
        own = TableCollector([RESTARTS], lambda: {RESTARTS.name: self._restarts})
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
        try:
            status = await worker.run(self._serves, self._patience_s())
        finally:
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
        patience_s = self._answer_s(request)
        answers = await asyncio.gather(*(worker.ask(request, patience_s) for worker in workers))
        return {
            worker.number: answer
            for worker, answer in zip(workers, answers, strict=True)
            # A worker that has exited meanwhile is left out: it does not hang.
            if answer is not None or worker.is_serving
        }

    async def ask_one(self, request: AdminRequest) -> WorkerAnswer | None:
        """See `Workers`."""
        workers = sorted(self._serving(), key=lambda worker: worker.is_silent)
        return await workers[0].ask(request, self._answer_s(request)) if workers else None

    async def metrics(self) -> Collector:
        """See `Workers`."""
        workers = self._serving()
        scraped = await asyncio.gather(*(worker.scrape() for worker in workers))
        for worker, families in zip(workers, scraped, strict=True):
            if families is not None and worker.is_serving:
                self._metrics.update(worker.number, families)
        return Merged(self._metrics.together(records(self._own)))

    def _answer_s(self, request: AdminRequest) -> float:
        """What a worker may take for it."""
        if request.path in (HEALTH, READINESS):
            return ANSWER_S
        return ANSWER_S + self._settings.redis.reply_timeout_s

    def _admin_server(self) -> Server:
        settings = self._settings
        app = workers_app(self, settings.server.pod, metrics_enabled=settings.metrics.enabled)
        port = admin_port(settings, descriptor_limit())
        return Server(app, settings, bind_http(port))
