"""Wires the parts of one replica and owns their life cycle.

Start: bind both ports, connect to Redis in the background (viewers are told to come back while it
is away), serve.
Stop (SIGTERM or SIGINT): not ready, send everybody away at a pace, give up slots, lease and
consumers, end. All tasks belong to one TaskGroup; said again, `stop` hurries the drain.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from tidegate import __version__
from tidegate.core.revocation import Revocation
from tidegate.core.slots import Victim
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub, unstored_frame
from tidegate.model.errors import InvalidRequest, RedisUnavailable, SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis import control
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender, Retention
from tidegate.redis.control import Control
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.operation_hash import OperationHash
from tidegate.redis.pods import Figures, Pods
from tidegate.redis.revoked import RevokedTokens
from tidegate.redis.rights import Rights
from tidegate.redis.slots import RedisSlots
from tidegate.redis.topology import Topology
from tidegate.runtime.descriptors import descriptor_limit
from tidegate.runtime.inside import Inside
from tidegate.runtime.leaving import Leaving
from tidegate.runtime.listening import BACKLOG, listen
from tidegate.runtime.report import Report
from tidegate.runtime.server import Server
from tidegate.telemetry.connections import Connections
from tidegate.telemetry.metrics import new_registry
from tidegate.web.access.authenticator import Gate
from tidegate.web.access.limits import Door
from tidegate.web.access.sessions import Admission
from tidegate.web.admin.app import admin_app
from tidegate.web.app import PublicApp
from tidegate.web.http.publish import publishing_routes
from tidegate.web.http.shutdown_guard import CutOff
from tidegate.web.server.http_protocol import bind_http
from tidegate.web.server.port import admin_port, public_port
from tidegate.web.ws.http_upgrade import bind_upgrade
from tidegate.web.ws.protocol import bind

if TYPE_CHECKING:
    from tidegate.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

#: Clocks of issuers may be ahead of ours by so much.
CLOCKS_S = 60.0


class Replica:
    """One replica. `run` until `stop`."""

    def __init__(self, settings: Settings) -> None:
        if settings.server.auth is None:
            raise SettingsError(
                ("server.auth: must be said; `none` lets anybody watch every operation",)
            )
        self._settings = settings
        self._stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._topology = Topology(parse_address(settings.redis), settings.redis)
        self._log = RedisLog(self._topology, settings)
        fanout = Fanout(asyncio.get_running_loop())
        self._feed = RedisFeed(self._topology, self._log, settings, fanout)
        self._tracing = _tracing(settings)
        self._hub = Hub(
            settings,
            self._feed,
            self._log,
            self._spawn,
            fanout.wake,
            tracer=None if self._tracing is None else self._tracing.entries,
        )
        self._door = Door(settings.replica)
        descriptors = descriptor_limit()
        self._public_port = public_port(settings, descriptors, self._door.refusals)
        self._admin_port = admin_port(settings, descriptors)
        spans = None if self._tracing is None else self._tracing.connections
        self._connections = Connections(settings.log.connections_per_s, spans)
        self._door.visitors = self._connections
        self._leaving = Leaving(self._door, settings.drain)
        self._pods = Pods(self._topology, settings, figures=self._figures)
        self._slots = RedisSlots(self._topology, self._pods, settings, self._over_limit)
        hashes = OperationHash(self._topology, settings.source.redis_prefix)
        self._gate = Gate(settings, hashes)
        self._admission = Admission(self._gate, self._slots, self._door, settings, self._spawn)
        self._admission.on_victims = self._tell_victims
        self._appender = Appender(
            self._topology,
            settings.redis,
            settings.dispatch,
            Retention(settings.publish.cap, settings.publish.ttl_s),
        )
        self._revoked = RevokedTokens(
            self._topology,
            settings,
            self._admission.revocations,
            on_more=self._admission.revoked,
        )
        self._control = Control(
            self._topology, settings, self._told, on_gap=self._revoked.read_soon
        )
        self._rights = Rights(self._topology, settings, self._slots.batches)
        self._report = Report(
            settings,
            rights=self._rights,
            hub=self._hub,
            feed=self._feed,
            log=self._log,
            door=self._door,
            ports={"public": self._public_port, "admin": self._admin_port},
            admission=self._admission,
            pods=self._pods,
            slots=self._slots,
            leaving=self._leaving,
            visits=self._connections,
            spans_dropped=self._spans_dropped,
        )
        self._inside = Inside(
            settings.topic,
            hub=self._hub,
            feed=self._feed,
            log=self._log,
            state=self._report.state,
        )

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            TidegateError: a port is taken.
        """
        server = self._settings.server
        lowat = self._settings.viewer.notsent_lowat_bytes
        with (
            listen(server.host, server.port, "server.port", lowat) as public,
            listen(server.admin_host, server.admin_port, "server.admin_port", lowat) as admin,
        ):
            try:
                await self._serve(public, admin)
            finally:
                await self._topology.close()
                self._report.stop()
                self._connections.close()
                if self._tracing is not None:
                    await self._tracing.close()

    def stop(self) -> None:
        """Drain and end; safe to call at any time. Said again, it is done without waiting."""
        if self._stop.is_set():
            self._leaving.hurry()
        self._stop.set()

    async def _serve(self, public: socket.socket, admin: socket.socket) -> None:
        viewer = self._settings.viewer
        viewers = self._server(
            self._public_app(),
            http=bind_upgrade(self._public_port, self._door),
            ws=bind(viewer),
            ws_max_size=viewer.max_message_bytes,
            ws_ping_interval=viewer.ping_interval_s,
            ws_ping_timeout=viewer.ping_timeout_s,
            ws_per_message_deflate=False,  # 34 KiB per connection, a fifth saved on small frames
        )
        admins = self._server(
            admin_app(
                self._settings.server,
                readiness=self._report.readiness,
                inside=self._inside,
                registry=new_registry(self._report.numbers)
                if self._settings.metrics.enabled
                else None,
                disconnect=self._disconnect,
                revoke=self._revoke,
            ),
            http=bind_http(self._admin_port),
            ws="none",
        )
        self._report.start()
        async with self._tasks as tasks:
            standing = [
                tasks.create_task(work, name=name)
                for work, name in (
                    (self._feed.run(), "feed"),
                    (self._pods.run(), "lease"),
                    (self._slots.run(), "slots"),
                    (self._control.run(), "control"),
                    (self._revoked.run(), "revoked"),
                    (self._rights.run(), "rights"),
                    (self._gate.run(), "keys"),
                )
            ]
            for task in standing:
                self._inside.made(task)
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
            self._report.stopping()
            log.info("draining", connections=len(self._door))
            await self._leaving.drain()
            viewers.stop()
            await serving
            await self._give_up()
            for task in standing:
                task.cancel()
            admins.stop()
        log.info("stopped")

    async def _give_up(self) -> None:
        """What others need not wait for: slots, lease, consumers. Redis may be away by now."""
        try:
            async with asyncio.timeout(self._settings.redis.reply_timeout_s):
                await self._slots.leave()
                await self._pods.leave()
                await self._feed.leave()
        except (RedisUnavailable, TimeoutError) as error:
            log.warning("left without saying goodbye to redis", error=str(error))
        await self._gate.close()
        await self._appender.close()

    def _public_app(self) -> PublicApp:
        app = PublicApp(self._hub, self._door, self._admission, self._settings)
        app.include(
            publishing_routes(self._appender, self._log, self._settings, self._say_unstored)
        )
        return app

    def _say_unstored(self, operation: OperationId, message: bytes) -> int:
        """While Redis is away and the caller asked for it: to the viewers of this replica only."""
        return self._hub.say_unstored(operation, unstored_frame(operation, message))

    def _server(self, app: Any, **options: Any) -> Server:
        keep_alive_s: Any = self._settings.replica.keep_alive_s  # `int`, but any number will do
        config = uvicorn.Config(
            CutOff(app),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=keep_alive_s,
            timeout_graceful_shutdown=max(1, round(self._settings.server.shutdown_timeout_s)),
            **options,
        )
        return Server(config)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Work for one viewer: what goes wrong with it must not end the replica."""
        task = self._tasks.create_task(self._supervise(work, name), name=name)
        self._inside.made(task)
        return task

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("a task failed", task=name)

    # -- what is told to and by other replicas ---------------------------------------------------

    def _figures(self) -> Figures:
        return self._report.figures()

    def _spans_dropped(self) -> int:
        return 0 if self._tracing is None else self._tracing.counts().dropped

    def _over_limit(self, user: str, connections: tuple[str, ...]) -> None:
        self._admission.over_limit(user, connections)

    def _tell_victims(self, victims: tuple[Victim, ...]) -> None:
        connections = tuple(victim.connection for victim in victims)
        _ = self._spawn(self._control.say_replaced(connections), "replaced")

    async def _disconnect(self, kind: str, name: str, reason: str) -> int:
        """Close a user's connections, or an operation's, on all replicas; how many listened."""
        if kind == "user":
            return await self._control.publish(control.DisconnectUser(name, reason))
        return await self._control.publish(control.DisconnectOperation(name, reason))

    async def _revoke(self, revocation: Revocation, reason: str) -> int:
        """Take tokens back, on all replicas and for those that start later; how many listened."""
        user, token_id, issued_before_s = revocation
        if issued_before_s is not None and issued_before_s > time.time() + CLOCKS_S:
            raise InvalidRequest("issued_before", "must not be in the future (seconds since 1970)")
        await self._revoked.add(revocation)
        return await self._control.publish(control.Revoke(user, token_id, issued_before_s, reason))

    def _told(self, message: control.Message) -> None:
        match message:
            case control.DisconnectUser(user, reason):
                self._admission.disconnect(user, reason)
            case control.Revoke(user, token_id, issued_before_s):
                revocation = Revocation(user, token_id, issued_before_s)
                if self._admission.revocations.tell(revocation):
                    self._admission.revoked(user)
                else:  # the book is full: better all of a user's connections than none
                    self._admission.disconnect(user, message.reason)
            case control.DisconnectOperation(operation, reason):
                self._hub.disconnect(OperationId(operation), reason)
            case control.ReplacedConnections(connections):
                self._admission.replaced(connections)
            case control.Rebalance(pod, connections, over_s):
                if pod == self._settings.server.pod:
                    _ = self._spawn(self._leaving.shed(connections, over_s), "rebalance")


def _tracing(settings: Settings) -> Tracing | None:
    """Raises SettingsError: the exporter is not installed."""
    if settings.tracing.exporter == "none":
        return None
    from tidegate.telemetry.tracing import Tracing  # 0.1 s that only who traces pays

    return Tracing(settings.tracing, settings.server.pod)


def _settle_garbage() -> None:
    """What lives since the start lives for ever: keep it out of later collections.

    A full collection over 5,000 connections stops the loop for 235 ms, so it must be rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
