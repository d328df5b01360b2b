"""One replica, from its settings to its end: wires the parts and owns their life cycle.

Start: bind both ports, connect to Redis in the background (viewers are told to come back while it
is away), serve.
Stop (SIGTERM or SIGINT): not ready, send everybody away at a pace, give up the consumers, end.
All tasks belong to one TaskGroup; a second signal hurries the drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

import structlog
import uvicorn

from tidegate import __version__
from tidegate.core.drain import TICK_S, plan_drain
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.model.errors import SettingsError, TidegateError
from tidegate.model.settings import Settings
from tidegate.redis.address import parse_address
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.topology import Topology
from tidegate.telemetry.logs import configure_logs
from tidegate.telemetry.metrics import Numbers, new_registry
from tidegate.web.admin import Readiness, admin_app
from tidegate.web.door import Door
from tidegate.web.protocol import bind
from tidegate.web.public import PublicApp
from tidegate.web.upgrade import bind_upgrade

log = structlog.get_logger(__name__)

BACKLOG = 4096


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the runtime has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Runtime:
    """One replica."""

    def __init__(self, settings: Settings) -> None:
        if settings.server.auth is None:
            raise SettingsError(
                ("server.auth: must be said; `none` lets anybody watch every operation",)
            )
        self._settings = settings
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopping = False
        self._started = time.monotonic()
        self._tasks = asyncio.TaskGroup()
        self._topology = Topology(parse_address(settings.redis), settings.redis)
        self._log = RedisLog(self._topology, settings)
        fanout = Fanout(asyncio.get_running_loop())
        self._feed = RedisFeed(self._topology, self._log, settings, fanout)
        self._door = Door(settings.replica)
        self._hub = Hub(settings, self._feed, self._log, self._spawn, fanout)

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            TidegateError: a port is taken.
        """
        server = self._settings.server
        lowat = self._settings.viewer.notsent_lowat_bytes
        with (
            _listen(server.host, server.port, "server.port", lowat) as public,
            _listen(server.admin_host, server.admin_port, "server.admin_port", lowat) as admin,
        ):
            try:
                await self._serve(public, admin)
            finally:
                await self._topology.close()

    def stop(self) -> None:
        """Drain and end; safe to call at any time. Said again, it is done without waiting."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _serve(self, public: socket.socket, admin: socket.socket) -> None:
        viewer = self._settings.viewer
        viewers = self._server(
            PublicApp(self._hub, self._door, self._settings),
            http=bind_upgrade(self._door, self._settings.replica),
            ws=bind(viewer),
            ws_max_size=viewer.max_message_bytes,
            ws_ping_interval=viewer.ping_interval_s,
            ws_ping_timeout=viewer.ping_timeout_s,
            ws_per_message_deflate=False,  # 34 KiB per connection, a fifth saved on small frames
        )
        admins = self._server(
            admin_app(self._readiness, self._state, new_registry(self._numbers)), ws="none"
        )
        async with self._tasks as tasks:
            feed = tasks.create_task(self._feed.run(), name="feed")
            serving = tasks.create_task(viewers.serve(sockets=[public]), name="public")
            tasks.create_task(admins.serve(sockets=[admin]), name="admin")
            _settle_garbage()
            log.info(
                "serving",
                version=__version__,
                pod=self._settings.server.pod,
                port=public.getsockname()[1],
                admin_port=admin.getsockname()[1],
            )
            await self._stop.wait()
            await self._drain()
            viewers.should_exit = True
            await serving
            await self._feed.leave()
            feed.cancel()
            admins.should_exit = True
        log.info("stopped")

    def _server(self, app: Any, **options: Any) -> _Server:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=max(1, round(self._settings.server.shutdown_timeout_s)),
            **options,
        )
        return _Server(config)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Work for one viewer: what goes wrong with it must not end the replica."""
        self._tasks.create_task(self._supervise(work, name), name=name)

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("a task failed", task=name)

    async def _drain(self) -> None:
        """Not ready, then send everybody away, paced; a second `stop` shortens it."""
        drain = self._settings.drain
        self._stopping = True
        log.info("draining", connections=len(self._door))
        await self._pause(drain.delay_s if len(self._door) else 0.0)
        self._door.is_shut = True
        plan = plan_drain(
            len(self._door),
            window_s=drain.window_s,
            absorb_per_s=drain.absorb_per_s,
            jitter_s=drain.jitter_s,
        )
        spread_ms = round(plan.spread_s * 1000)
        for _ in range(plan.ticks):
            for connection in self._door.some(plan.per_tick):
                self._door.leave(connection)
                connection.send_away(random.randint(0, spread_ms))
            if not len(self._door):
                break
            await self._pause(TICK_S)
        for connection in self._door.some(len(self._door)):  # came in at the last moment
            connection.send_away(random.randint(0, spread_ms))

    async def _pause(self, seconds: float) -> None:
        """Wait, unless `stop` was said again."""
        if not self._hurry.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    # -- what the admin port shows ---------------------------------------------------------------

    def _readiness(self) -> Readiness:
        if self._stopping:
            return Readiness(ready=False, reason="stopping")
        if not self._feed.is_connected:
            return Readiness(ready=False, reason="redis is not connected")
        return Readiness(ready=True, reason="serving")

    def _numbers(self) -> Numbers:
        hub, totals = self._hub.stats(), self._hub.counters
        links = self._feed.stats()
        events: Counter[str] = Counter()
        for link in links:
            events.update(link.counts)
        return {
            "tidegate_operations": hub.operations,
            "tidegate_viewers": {
                "live": hub.live,
                "lagging": hub.lagging,
                "catching_up": hub.catching_up,
            },
            "tidegate_ring_bytes": hub.ring_bytes,
            "tidegate_outbox_items": hub.outbox_items,
            "tidegate_joins_total": totals.joins,
            "tidegate_deliveries_total": totals.deliveries,
            "tidegate_delivered_bytes_total": totals.bytes_sent,
            "tidegate_replayed_entries_total": totals.replayed_entries,
            "tidegate_skipped_entries_total": totals.skipped,
            "tidegate_buffers_full_total": totals.lagged,
            "tidegate_gaps_total": totals.gaps,
            "tidegate_malformed_entries_total": totals.malformed,
            "tidegate_closes_total": totals.closes,
            "tidegate_connections": len(self._door),
            "tidegate_refusals_total": self._door.refusals,
            "tidegate_log_pages_total": self._log.pages,
            "tidegate_redis_connected": {link.node: int(link.connected) for link in links},
            "tidegate_redis_doorbell": {link.doorbell: 1 for link in links if link.connected},
            "tidegate_redis_streams_leading": sum(link.leading for link in links),
            "tidegate_redis_attach_backlog": sum(link.attach_backlog for link in links),
            "tidegate_redis_events_total": events,
        }

    def _state(self) -> dict[str, Any]:
        return {
            "pod": self._settings.server.pod,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "readiness": self._readiness()._asdict(),
            "redis": {
                "deployment": self._feed.deployment.value,
                "primaries": [link._asdict() for link in self._feed.stats()],
            },
            "numbers": self._numbers(),
        }


def _settle_garbage() -> None:
    """What lives since the start lives for ever: keep it out of later collections.

    A full collection over 5,000 connections stops the loop for 235 ms, so it must be rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@contextlib.contextmanager
def _listen(host: str, port: int, name: str, notsent_lowat_bytes: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise TidegateError(
                f"{name}: cannot listen on {host}:{port}: {error.strerror}; "
                "give another port, or 0 for any free one"
            ) from None
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Accepted sockets inherit it. Without it the kernel hides up to 4 MB for a browser
            # that does not read, and a viewer would be late by that much.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, notsent_lowat_bytes)
        bound.listen(BACKLOG)
        bound.settimeout(0)
        yield bound


async def serve(settings: Settings) -> None:
    """Run one replica until SIGTERM or SIGINT; a second signal ends it at once.

    Raises:
        TidegateError: the start is refused; the text says why.
    """
    configure_logs(settings.log)
    runtime = Runtime(settings)
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, runtime.stop)
    try:
        await runtime.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
