"""One worker process of a pod: a replica that shares its public port with the other workers and
whose admin port is that of the supervisor.

`supervisor` starts it as `python -m tidegate.runtime.worker NAME FD FD`. It drains and exits when
the supervisor asks for it, on SIGTERM, and when the supervisor has died. It ignores SIGINT, which a
terminal sends to both processes: the supervisor handles it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import structlog

from tidegate.core.workers import worker_name
from tidegate.model.errors import SettingsError, TidegateError
from tidegate.model.settings import Settings
from tidegate.runtime.descriptors import raise_descriptor_limit
from tidegate.runtime.event_loop import loop_factory
from tidegate.runtime.replica import Replica
from tidegate.runtime.worker_channel import (
    ANSWER_MAX_BYTES,
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
from tidegate.telemetry.logs import configure_logs
from tidegate.telemetry.metric_merge import FamilyRecord, records

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp

log = structlog.get_logger(__name__)

REFUSED_EXIT_CODE = 2


def worker_settings(settings: Settings, number: int) -> Settings:
    """The settings of worker `number`: its name, and its share of `drain.absorb_per_s`."""
    server, drain = settings.server, settings.drain
    return settings.model_copy(
        update={
            "server": server.model_copy(update={"pod": worker_name(server.pod, number)}),
            "drain": drain.model_copy(update={"absorb_per_s": drain.absorb_per_s / server.workers}),
        }
    )


class Worker:
    """Handles the messages of the supervisor, and is the `Seat` of its replica."""

    def __init__(self, channel: WorkerChannel, start: Start, public: socket.socket) -> None:
        self._channel = channel
        self.public = public
        self.number = start.number
        self._admin: ASGIApp | None = None
        self._registry: CollectorRegistry | None = None
        self._replica: Replica | None = None
        #: 1: drain, 2: drain without waiting. `_told`: how often `Replica.stop` was called.
        self._wanted = self._told = 0
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self, settings: Settings) -> None:
        """Serve until the replica has stopped.

        Raises:
            TidegateError: it cannot serve.
        """
        self._replica = replica = Replica(settings, self)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        # The supervisor has blocked them, so that none ended the process before.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        self._tell()
        await replica.run()

    def serving(self, admin: ASGIApp, registry: CollectorRegistry) -> None:
        """See `Seat`."""
        self._admin, self._registry = admin, registry
        self._channel.send(Serving())

    def leased(self, incarnation: str) -> None:
        """See `Seat`."""
        self._channel.send(Leased(incarnation))

    async def listen(self) -> None:
        """Handle messages until the supervisor closes the channel or dies."""
        while (message := await self._channel.receive()) is not None:
            match message:
                case Stop(hurry):
                    self._stop(hurry=hurry)
                case Died(incarnations):
                    if self._replica is not None:
                        self._replica.end_leases(incarnations)
                case Scrape(id_):
                    self._channel.send(Scraped(id_, self._scraped()))
                case Request() as request:
                    # A task of its own, not of the replica, which may have stopped before.
                    task = asyncio.create_task(self._answer(request), name="admin request")
                    self._answers.add(task)
                    task.add_done_callback(self._answers.discard)
        if not self._wanted:
            log.warning("the supervisor has died; draining")
        self._stop()

    def _stop(self, *, hurry: bool = False) -> None:
        """A second SIGTERM has no effect: service managers send one to each process, and the
        supervisor sends `Stop`.
        """
        self._wanted = max(self._wanted, 2 if hurry else 1)
        self._tell()

    def _tell(self) -> None:
        while self._replica is not None and self._told < self._wanted:
            self._told += 1
            self._replica.stop()

    def _scraped(self) -> list[FamilyRecord] | None:
        """A mistake in a metric is no reason to hear the supervisor no more."""
        try:
            return None if self._registry is None else records(self._registry)
        except Exception:
            log.exception("metrics failed")
            return None

    async def _answer(self, request: Request) -> None:
        if self._admin is None:
            self._channel.send(Response(request.id, 503, [], b""))
            return
        try:
            status, headers, body = await _ask(self._admin, request)
        except Exception:
            log.exception("admin request failed", path=request.path)
            status, headers, body = 500, [], b""
        if len(body) > ANSWER_MAX_BYTES:
            log.error("admin answer too large", path=request.path, bytes=len(body))
            status, headers, body = 500, [], b""
        self._channel.send(Response(request.id, status, headers, body))


async def _ask(app: ASGIApp, request: Request) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Call an ASGI application with a request without a body: status, headers, body."""
    status, headers, body = 500, [], bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(bytes(name), bytes(value)) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return status, headers, bytes(body)


async def _run(channel_fd: int, public_fd: int) -> int:
    channel = await WorkerChannel.open(socket.socket(fileno=channel_fd))
    public = socket.socket(fileno=public_fd)
    public.settimeout(0)
    start = await channel.receive()
    if not isinstance(start, Start):
        return 0  # the supervisor has died
    sys.path[:] = [os.fsdecode(folder) for folder in start.path]
    settings: Settings = pickle.loads(start.settings)  # noqa: S301 - from our own supervisor
    configure_logs(settings.log)
    settings = worker_settings(settings, start.number)
    raise_descriptor_limit(settings)
    worker = Worker(channel, start, public)
    listening = asyncio.create_task(worker.listen(), name="supervisor")
    try:
        await worker.run(settings)
    except TidegateError as error:
        channel.send(CannotServe(str(error), isinstance(error, SettingsError)))
        return REFUSED_EXIT_CODE
    finally:
        listening.cancel()
        await channel.flush()
        channel.close()
    return 0


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, _, channel_fd, public_fd = sys.argv
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(_run(int(channel_fd), int(public_fd))))


if __name__ == "__main__":
    main()
