"""One worker process, as its supervisor sees it: from start to exit, and what it is asked.

    started --Serving--> serving --Stop, or it dies--> ended
    serving --no answer in time--> silent --it sends something--> serving
    silent --for `HANG_S`--> killed

A worker that starts is not watched: it may wait for Redis.
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

from tidegate.core.workers import worker_name
from tidegate.model.settings import Settings
from tidegate.runtime.listening import WorkersPort
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
from tidegate.telemetry.metric_merge import FamilyRecord
from tidegate.web.admin.workers import HEALTH, AdminRequest, WorkerAnswer

#: Blocked in a worker until it has handlers for them.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: A worker that does not answer for this long, beyond what Redis may take for the request, is
#: considered to hang. One that is known to hang has only `SILENT_S`.
ANSWER_S = 5.0
SILENT_S = 1.0
#: A serving worker is asked for a sign of life so often, and killed if there is none for `HANG_S`:
#: far longer than a worker without CPU needs.
WATCH_S = 10.0
HANG_S = 60.0
HEALTH_REQUEST = AdminRequest("GET", HEALTH, HEALTH.encode(), b"", [])

log = structlog.get_logger(__name__)


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
        #: When it last sent something (monotonic time).
        self._heard = time.monotonic()
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
            self._heard = time.monotonic()
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

    async def watch(self) -> None:
        """Kill it if it serves and has sent nothing for `HANG_S`, although it was asked."""
        while self.process.returncode is None:
            await asyncio.sleep(WATCH_S)
            await self.ask(HEALTH_REQUEST, 0)
            silent_s = time.monotonic() - self._heard
            if self.is_serving and silent_s >= HANG_S:
                silent_s = round(silent_s, 1)
                log.error("worker hangs and is killed", number=self.number, silent_s=silent_s)
                self.kill()
                return

    def kill(self) -> None:
        """Send SIGKILL, unless it has exited."""
        if self.process.returncode is None:
            self.process.kill()

    async def ask(self, request: AdminRequest, redis_s: float) -> WorkerAnswer | None:
        """Its response to a request of the admin port; None if there is none in `ANSWER_S` and the
        time that Redis may take for it.
        """
        answer = await self._ask(lambda id_: Request(id_, *request), ANSWER_S + redis_s)
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
