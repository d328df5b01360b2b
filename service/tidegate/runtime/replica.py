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
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from tidegate import __version__
from tidegate.core.revocation import Revocation
from tidegate.core.survey import ReportedFigures
from tidegate.gateway.hub import unstored_frame
from tidegate.gateway.node import GatewayNode
from tidegate.model.errors import InvalidRequest, SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis import control
from tidegate.redis.appending import Retention
from tidegate.redis.operation_hash import OperationHash
from tidegate.redis.pods import LeaseFigures
from tidegate.redis.revoked import RevokedTokens
from tidegate.redis.rights import Rights
from tidegate.runtime.container_memory import container_memory
from tidegate.runtime.descriptors import descriptor_limit
from tidegate.runtime.drainer import Drainer
from tidegate.runtime.gateway_view import GatewayView
from tidegate.runtime.inspector import ReplicaInspector
from tidegate.runtime.listening import BACKLOG, listen
from tidegate.runtime.memory_guard import MemoryGuard
from tidegate.runtime.report import MetricsReport
from tidegate.runtime.server import Server
from tidegate.telemetry.connections import Connections
from tidegate.telemetry.metrics import new_registry
from tidegate.web.access.authenticator import Authenticator
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.access.sessions import Admission
from tidegate.web.admin.app import admin_app
from tidegate.web.app import PublicApp
from tidegate.web.demo.start import start_routes
from tidegate.web.http.publish import publishing_routes
from tidegate.web.http.shutdown_guard import ShutdownGuard
from tidegate.web.server.client_address import ClientAddress
from tidegate.web.server.http_protocol import bind_http
from tidegate.web.server.port import admin_port, public_port
from tidegate.web.ws.http_upgrade import bind_upgrade
from tidegate.web.ws.protocol import bind

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tidegate.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

#: Clocks of issuers may be ahead of ours by so much.
CLOCKS_S = 60.0


class Replica:
    """One replica. `run` until `stop`."""

    def __init__(self, settings: Settings) -> None:
        if settings.server.auth is None:
            raise SettingsError(
                ("server.auth: is required; `none` lets anyone watch every operation",)
            )
        self._settings = settings
        self._stop = asyncio.Event()
        self._tracing = _tracing(settings)
        self._node = node = GatewayNode(
            settings,
            figures=self._figures,
            on_over_limit=self._over_limit,
            on_message=self._told,
            on_message_gap=self._missed,
            on_task=self._made,
            describe=self._describe,
            retention=Retention(settings.publish.cap, settings.publish.ttl_s),
            tracer=None if self._tracing is None else self._tracing.entries,
        )
        self._limiter = ConnectionLimiter(settings.replica)
        descriptors = descriptor_limit()
        self._public_port = public_port(settings, descriptors, self._limiter.refusals)
        self._admin_port = admin_port(settings, descriptors)
        spans = None if self._tracing is None else self._tracing.connections
        self._connections = Connections(settings.log.connections_per_s, spans)
        self._limiter.observer = self._connections
        self._drainer = Drainer(self._limiter, settings.drain)
        self._authenticator = Authenticator(
            settings, OperationHash(node.topology, settings.source.redis_prefix)
        )
        self._admission = Admission(
            self._authenticator, node.slots, self._limiter, settings, node.spawn
        )
        self._cancels = CancelService(node.canceller, settings, node.spawn)
        self._admission.on_victims = node.say_replaced
        self._revoked = RevokedTokens(
            node.topology,
            settings,
            self._admission.revocations,
            on_more=self._admission.revoked,
        )
        self._rights = Rights(node.topology, settings, node.slots.batches)
        self._memory = MemoryGuard(container_memory(), self._limiter, node.hub, settings.server.pod)
        self._report = MetricsReport(
            settings,
            rights=self._rights,
            hub=node.hub,
            feed=node.feed,
            log=node.log,
            limiter=self._limiter,
            ports={"public": self._public_port, "admin": self._admin_port},
            admission=self._admission,
            cancels=self._cancels,
            pods=node.pods,
            slots=node.slots,
            drainer=self._drainer,
            memory=self._memory,
            records=self._connections,
            spans_dropped=self._spans_dropped,
        )
        self._inside = ReplicaInspector(
            settings.topic,
            hub=node.hub,
            inventory=node.inventory,
            feed=node.feed,
            log=node.log,
            state=self._report.state,
        )
        self._console = GatewayView(node)

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
                await self._node.close()
                self._memory.stop()
                self._report.stop()
                self._connections.close()
                if self._tracing is not None:
                    await self._tracing.close()

    def stop(self) -> None:
        """Drain and end; safe to call at any time. Said again, it is done without waiting."""
        if self._stop.is_set():
            self._drainer.hurry()
        self._stop.set()

    async def _serve(self, public: socket.socket, admin: socket.socket) -> None:
        viewer = self._settings.viewer
        viewers = self._server(
            self._public_app(),
            http=bind_upgrade(self._public_port, self._limiter),
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
                gateway=self._console,
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
        self._memory.start()
        async with self._node.running(
            (self._revoked.run(), "revoked"),
            (self._rights.run(), "rights"),
            (self._authenticator.run(), "keys"),
        ) as tasks:
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
            log.info("draining", connections=len(self._limiter))
            await self._drainer.drain()
            viewers.stop()
            await serving
            await self._node.leave()
            await self._authenticator.close()
            admins.stop()
        log.info("stopped")

    def _public_app(self) -> ASGIApp:
        node = self._node
        app = PublicApp(node.hub, self._limiter, self._admission, self._cancels, self._settings)
        app.include(publishing_routes(node.appender, node.log, self._settings, self._say_unstored))
        if self._settings.server.demo:
            app.include(start_routes(node.appender, self._settings))
        trusted = self._settings.server.forwarded_allow_ips
        return ClientAddress(app, trusted) if trusted else app

    def _say_unstored(self, operation: OperationId, message: bytes) -> int:
        """While Redis is away and the caller asked for it: to the viewers of this replica only."""
        return self._node.hub.say_unstored(operation, unstored_frame(operation, message))

    def _server(self, app: Any, **options: Any) -> Server:
        keep_alive_s: Any = self._settings.replica.keep_alive_s  # `int`, but any number will do
        config = uvicorn.Config(
            ShutdownGuard(app),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # `ClientAddress` does it, where it is asked for
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=keep_alive_s,
            timeout_graceful_shutdown=max(1, round(self._settings.server.shutdown_timeout_s)),
            **options,
        )
        return Server(config)

    # -- what is told to and by other replicas ---------------------------------------------------

    def _figures(self) -> LeaseFigures:
        return self._report.figures()

    def _describe(self) -> ReportedFigures:
        return self._report.describe()

    def _made(self, task: asyncio.Task[None]) -> None:
        self._inside.made(task)

    def _over_limit(self, user: str, connections: tuple[str, ...]) -> None:
        self._admission.over_limit(user, connections)

    def _spans_dropped(self) -> int:
        return 0 if self._tracing is None else self._tracing.counts().dropped

    async def _disconnect(self, kind: str, name: str, reason: str) -> int:
        """Close a user's connections, or an operation's, on all replicas; how many listened."""
        if kind == "user":
            return await self._node.control.publish(control.DisconnectUser(name, reason))
        return await self._node.control.publish(control.DisconnectOperation(name, reason))

    async def _revoke(self, revocation: Revocation, reason: str) -> int:
        """Take tokens back, on all replicas and for those that start later; how many listened."""
        user, token_id, issued_before_s = revocation
        if issued_before_s is not None and issued_before_s > time.time() + CLOCKS_S:
            raise InvalidRequest("issued_before", "must not be in the future (seconds since 1970)")
        await self._revoked.add(revocation)
        message = control.Revoke(user, token_id, issued_before_s, reason)
        return await self._node.control.publish(message)

    def _missed(self) -> None:
        self._revoked.read_soon()

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
            case control.ReplacedConnections(connections):
                self._admission.replaced(connections)
            case control.Rebalance(pod, connections, over_s):
                if pod == self._settings.server.pod:
                    _ = self._node.spawn(self._drainer.shed(connections, over_s), "rebalance")


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
