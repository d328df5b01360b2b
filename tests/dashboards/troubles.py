"""What goes wrong while Prometheus looks on. Each trouble is over when its metric was seen to move.

So nothing is waited for by the clock, and a trouble that leaves no trace in any metric fails.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import httpx
from websockets.asyncio.client import connect

from tests.dashboards.crowd import PREFIX, Crowd, token
from tests.faults.replicas import Replica
from tests.harness.raw_viewer import RawViewer
from tests.servers.prometheus import Prometheus
from tests.servers.proxy import Proxy
from tests.servers.relay_loss import PushFault
from tests.servers.standalone import Server
from tests.telemetry.collector import Collector

LIMIT = 3
SEEN_S = 20.0
#: For all of one trouble.
TROUBLE_S = 45.0
SMALL_BUFFER_BYTES = 4_096
DRAINED = 40


class Pushes:
    """Loses every push of one kind between Redis and the replicas, while `lost` names it."""

    def __init__(self, link: Proxy) -> None:
        self.lost: bytes | None = None
        self._faults = [
            PushFault(kind, self._copies(kind)) for kind in (b"invalidate", b"smessage")
        ]
        link.down.filter = self._filter

    def _copies(self, kind: bytes) -> Callable[[int], int]:
        return lambda _: 0 if self.lost == kind else 1

    def _filter(self) -> Callable[[bytes], bytes]:
        bell, relay = (fault.on_connection() for fault in self._faults)
        return lambda data: relay(bell(data))


class Troubles:
    """The hand that strikes, and the eyes that wait for the trace of it."""

    def __init__(
        self,
        server: Server,
        pushes: Pushes,
        crowd: Crowd,
        prometheus: Prometheus,
        collector: Collector,
    ) -> None:
        self.server = server
        self.pushes = pushes
        self.crowd = crowd
        self.prometheus = prometheus
        self.collector = collector

    async def all(self) -> None:
        """One after the other, so that each is seen."""
        for trouble in (
            self.calm,
            self.refusals,
            self.gaps,
            self.odd_entries,
            self.lost_pushes,
            self.slow_viewers,
            self.lost_redis,
            self.lost_collector,
            self.drain,
        ):
            try:
                async with asyncio.timeout(TROUBLE_S):
                    await trouble()
            except TimeoutError as error:
                logs = "\n".join(r.process.log_tail(15) for r in self.crowd.replicas)
                raise AssertionError(f"{trouble.__name__}: {error}\n{logs}") from error

    async def seen(self, expr: str) -> None:
        await self.prometheus.until_scraped(expr, within_s=SEEN_S)

    # --- in order

    async def calm(self) -> None:
        """Every kind of viewer is there, and figures come."""
        for kind in ("ws", "multiplex", "sse", "long_poll"):
            await self.seen(f'tidegate_connections{{kind="{kind}"}} > 0')
        await self.seen("increase(tidegate_publish_to_socket_seconds_count[5s]) > 0")
        await self.seen('increase(tidegate_acks_total{outcome="answered"}[10s]) > 0')

    async def refusals(self) -> None:
        """No token, an old one, an id that cannot be, and a user with too many connections."""
        for query, operation in (
            ("", "op"),
            (f"?token={token('late', age_s=3_600)}", "op"),
            ("?token=nonsense", "op"),
            (f"?token={token('ann')}", "not%20an%20id"),
        ):
            await self._refused(f"/ws/operations/{operation}{query}")
        greedy = [self.crowd.keep(self.crowd.watch("op-http", "greedy")) for _ in range(LIMIT + 2)]
        for code in ("token_missing", "expired", "bad_token", "bad_request", "connection_limit"):
            await self.seen(f'tidegate_refusals_total{{code="{code}"}} > 0')
        await self.seen('tidegate_slot_events_total{event="full"} > 0')
        for task in greedy:
            task.cancel()

    async def gaps(self) -> None:
        """A viewer comes back to a stream that has lost what comes next."""
        for n in range(50):
            await self.crowd.add("op-trimmed", n=n)
        await self.crowd.client.xtrim(PREFIX + "op-trimmed", maxlen=10, approximate=False)
        path = f"/ws/operations/op-trimmed?last_event_id=1-1&token={token('gap')}"
        async with connect(self._url(0, path), proxy=None):
            await self.seen("sum(tidegate_gap_frames_total) > 0")

    async def odd_entries(self) -> None:
        """Text that is not JSON, and an id that is no time."""
        watching = [await self.crowd.seat(name, "odd") for name in ("op-odd", "op-dated")]
        await self.crowd.client.xadd(PREFIX + "op-odd", {"message": "{no json"})
        for n in range(1, 4):
            await self.crowd.client.xadd(PREFIX + "op-dated", {"message": "{}"}, id=f"{n}-1")
        await self.seen("sum(tidegate_malformed_entries_total) > 0")
        await self.seen('sum(tidegate_latency_unmeasured_total{reason="not_a_time"}) > 0')
        for task in watching:
            task.cancel()

    async def lost_pushes(self) -> None:
        """Doorbells, then relay messages are lost on the way; sweep and repair make up for it."""
        self.pushes.lost = b"invalidate"
        await self.seen("sum(tidegate_doorbell_missed_total) > 0")
        self.pushes.lost = b"smessage"
        await self.seen('sum(tidegate_repairs_total{cause=~"relay_gap|missed_relay"}) > 0')
        await self.seen("sum(tidegate_repaired_entries_total) > 0")
        self.pushes.lost = None

    async def slow_viewers(self) -> None:
        """Viewers that stop reading while much is written, and go on later."""
        operation = "op-slow"
        path = f"/ws/operations/{operation}?history=all&token="
        slow = [
            await RawViewer.open(
                self._url(n, path + token(f"slow-{n}")), receive_buffer=SMALL_BUFFER_BYTES
            )
            for n in range(2)
        ]
        try:
            writing = self.crowd.keep(self._flood(operation))
            await self.seen('sum(tidegate_viewers{state="lagging"}) > 0')
            await self.seen("sum(tidegate_viewers_lagged_total) > 0")
            reading = [self.crowd.keep(self._read(viewer)) for viewer in slow]
            await self.seen("sum(tidegate_skipped_entries_total) > 0")
            await self.seen('sum(tidegate_replay_entries_sum{occasion="catch_up"}) > 0')
            for task in (writing, *reading):
                task.cancel()
        finally:
            for viewer in slow:
                viewer.close()

    async def lost_redis(self) -> None:
        """Redis is killed and comes back with what it had."""
        await self.server.kill()
        try:
            await self.seen("tidegate_redis_connected == 0 or tidegate_ready == 0")
            # A viewer that comes now is counted on its replica only.
            watching = self.crowd.keep(self.crowd.watch("op-http", "meanwhile"))
            await self.seen('tidegate_slot_events_total{event="taken_locally"} > 0')
            await self.seen('tidegate_lease_renewals_total{outcome="failed"} > 0')
            watching.cancel()
            await self.seen('ALERTS{alertname="TidegateRedisAway"}')
        finally:
            await self.server.restart()
        await self.seen("min(tidegate_redis_connected) == 1 and min(tidegate_ready) == 1")
        await self.seen("sum(increase(tidegate_deliveries_total[3s])) > 0")

    async def lost_collector(self) -> None:
        """Nobody takes the spans any more, and the viewers get what they did."""
        assert self.collector.named("deliver")
        self.collector.kill()
        await self.seen("sum(tidegate_spans_dropped_total) > 0")
        await self.seen("sum(increase(tidegate_deliveries_total[3s])) > 0")

    async def drain(self) -> None:
        """A replica is told to leave, and comes back. Closes are 0.1 s apart: it needs so many
        viewers to be at it for longer than between two scrapes.
        """
        leaving = self.crowd.replicas[-1]
        place = len(self.crowd.replicas) - 1
        seats = (self.crowd.seat("op-http", f"drained-{n}", place) for n in range(DRAINED))
        watching = await asyncio.gather(*seats)
        leaving.process.signal(signal.SIGTERM)
        # In the minute before: it may be over when it is asked for.
        await self.seen("max_over_time(tidegate_drain_elapsed_seconds[1m]) > 0")
        await self.seen("max_over_time(tidegate_draining[1m]) == 1")
        await self.seen('sum(tidegate_moved_connections_total{reason="drain"}) > 0')
        status = await leaving.process.wait(30)
        assert status == 0, leaving.process.log_tail()
        for task in watching:
            task.cancel()
        await leaving.start()
        await self.seen("sum(tidegate_ready) >= 2 and min(tidegate_ready) == 1")

    # --- inside

    def _url(self, replica: int, path: str, scheme: str = "ws") -> str:
        one: Replica = self.crowd.replicas[replica]
        return f"{scheme}://{one.host}:{one.port}{path}"

    async def _refused(self, path: str) -> None:
        async with connect(self._url(0, path), proxy=None) as socket:
            await socket.wait_closed()

    async def _flood(self, operation: str) -> None:
        while True:
            await self.crowd.add(operation, text="x" * 4_000)

    async def _read(self, viewer: RawViewer) -> None:
        try:
            while not viewer.ended:
                await viewer.read()
        except (OSError, TimeoutError):
            pass


async def metrics_of(replica: Replica) -> str:
    """What a replica exposes, in Prometheus' text format."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{replica.host}:{replica.admin_port}/metrics")
        return answer.text
