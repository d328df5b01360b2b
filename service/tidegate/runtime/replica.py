"""Wires the parts of one replica and owns their life cycle.

Start: bind both ports, connect to Redis in the background (until it is connected, viewers are asked
to reconnect later), serve.
Stop (SIGTERM or SIGINT): become unready, disconnect all viewers at a limited rate, release slots,
lease and consumers, exit. All tasks belong to one TaskGroup. A second `stop` ends the drain.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from tidegate import __version__
from tidegate.core.compiled import engine
from tidegate.core.revocation import Revocation
from tidegate.core.survey import ReportedFigures
from tidegate.core.workers import pod_of_replica, share
from tidegate.gateway.hub import unstored_frame
from tidegate.gateway.node import GatewayNode
from tidegate.model.errors import InvalidRequest, RedisUnavailable, SettingsError
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
from tidegate.runtime.listening import listen
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
from tidegate.web.server.client_address import ClientAddress
from tidegate.web.server.http_protocol import bind_http
from tidegate.web.server.port import admin_port, public_port
from tidegate.web.ws.acceptor import Acceptor
from tidegate.web.ws.public_http import bind_front

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp

    from tidegate.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

#: How far the clock of a token's issuer may be ahead of ours.
CLOCKS_S = 60.0


class Seat(Protocol):
    """What a worker process gives to its replica instead of two ports of its own.

    Attributes:
        public: a bound socket of the port that all workers share.
        number: the number of the worker, from 1.
    """

    public: socket.socket
    number: int

    def leased(self, incarnation: str) -> None:
        """The replica has acquired a lease, as this incarnation."""

    def serving(self, admin: ASGIApp, registry: CollectorRegistry) -> None:
        """The replica accepts viewers. `admin` and `registry` are for requests to the admin port
        of the supervisor.
        """


class Replica:
    """One replica, which runs until `stop`."""

    def __init__(self, settings: Settings, seat: Seat | None = None) -> None:
        if settings.server.auth is None:
            raise SettingsError(
                ("server.auth: is required; `none` lets anyone watch every operation",)
            )
        self._settings = settings
        self._seat = seat
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
        if seat is not None:
            node.pods.on_lease = seat.leased
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
            TidegateError: a port is in use.
        """
        server = self._settings.server
        lowat = self._settings.viewer.notsent_lowat_bytes
        if self._seat is not None:
            await self._serve_and_close(self._seat.public, None)
            return
        with (
            listen(server.host, server.port, "server.port", lowat) as public,
            listen(server.admin_host, server.admin_port, "server.admin_port", lowat) as admin,
        ):
            await self._serve_and_close(public, admin)

    def stop(self) -> None:
        """Drain and stop; safe to call at any time. A second call ends the drain."""
        if self._stop.is_set():
            self._drainer.hurry()
        self._stop.set()

    def end_leases(self, incarnations: Sequence[str]) -> None:
        """Release the leases of workers of this pod that have died."""
        _ = self._node.spawn(self._end_leases(incarnations), "end leases")

    async def _end_leases(self, incarnations: Sequence[str]) -> None:
        try:
            await self._node.pods.end_leases(incarnations)
        except RedisUnavailable as error:
            log.warning("leases of dead workers not released", reason=str(error))

    async def _serve_and_close(self, public: socket.socket, admin: socket.socket | None) -> None:
        try:
            await self._serve(public, admin)
        finally:
            await self._node.close()
            self._memory.stop()
            self._report.stop()
            self._connections.close()
            if self._tracing is not None:
                await self._tracing.close()

    async def _serve(self, public: socket.socket, admin: socket.socket | None) -> None:
        app, settings, port = self._public_app(), self._settings, self._public_port
        acceptor = Acceptor(app, self._limiter, settings, port.on_left)
        trusted = settings.server.forwarded_allow_ips
        viewers = Server(
            ClientAddress(app, trusted) if trusted else app,
            settings,
            bind_front(port, self._limiter, acceptor),
        )
        acceptor.serve(viewers.connections, viewers.tasks)
        registry = new_registry(self._report.numbers)
        inside = admin_app(
            self._settings.server,
            readiness=self._report.readiness,
            inside=self._inside,
            gateway=self._console,
            registry=registry if self._settings.metrics.enabled else None,
            disconnect=self._disconnect,
            revoke=self._revoke,
        )
        admins = Server(inside, self._settings, bind_http(self._admin_port))
        self._report.start()
        self._memory.start()
        async with self._node.running(
            (self._revoked.run(), "revoked"),
            (self._rights.run(), "rights"),
            (self._authenticator.run(), "keys"),
        ) as tasks:
            serving = tasks.create_task(viewers.serve(public), name="public")
            if admin is not None:
                tasks.create_task(admins.serve(admin), name="admin")
            _settle_garbage()
            said = {
                "version": __version__,
                "engine": engine(),
                "pod": self._settings.server.pod,
            }
            if admin is not None:
                port, admin_port = public.getsockname()[1], admin.getsockname()[1]
                log.info("serving", **said, port=port, admin_port=admin_port)
            if self._seat is not None:
                await viewers.listening.wait()
                log.info("worker serving", **said)
                self._seat.serving(inside, registry)
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

    def _public_app(self) -> PublicApp:
        node = self._node
        app = PublicApp(node.hub, self._limiter, self._admission, self._cancels, self._settings)
        app.include(publishing_routes(node.appender, node.log, self._settings, self._say_unstored))
        if self._settings.server.demo:
            app.include(start_routes(node.appender, self._settings))
        return app

    def _say_unstored(self, operation: OperationId, message: bytes) -> int:
        """Send an entry that cannot be stored to the viewers of this replica, if the caller has
        asked for that; how many there are.
        """
        return self._node.hub.say_unstored(operation, unstored_frame(operation, message))

    # -- messages to and from other replicas -----------------------------------------------------

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
        """Close the connections of a user or an operation on all replicas; how many replicas have
        received the message.
        """
        if kind == "user":
            return await self._node.control.publish(control.DisconnectUser(name, reason))
        return await self._node.control.publish(control.DisconnectOperation(name, reason))

    async def _revoke(self, revocation: Revocation, reason: str) -> int:
        """Revoke tokens on all replicas, also those that start later; how many replicas have
        received the message.

        Raises:
            InvalidRequest: `issued_before_s` is in the future.
        """
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
                else:  # no more revocations fit: close all connections of the user instead
                    self._admission.disconnect(user, message.reason)
            case control.ReplacedConnections(connections):
                self._admission.replaced(connections)
            case control.Rebalance(pod, connections, over_s):
                if pod == pod_of_replica(self._settings.server.pod):
                    if self._seat is not None:
                        workers = self._settings.server.workers
                        connections = share(connections, self._seat.number, workers)
                    _ = self._node.spawn(self._drainer.shed(connections, over_s), "rebalance")


def _tracing(settings: Settings) -> Tracing | None:
    """Tracing, if it is enabled.

    Raises:
        SettingsError: the exporter is not installed.
    """
    if settings.tracing.exporter == "none":
        return None
    from tidegate.telemetry.tracing import Tracing  # takes 0.1 s, which only tracing needs

    return Tracing(settings.tracing, settings.server.pod)


def _settle_garbage() -> None:
    """Exclude everything that exists after the start from garbage collection.

    A full collection with 5,000 connections blocks the event loop for 235 ms, so it must be rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
