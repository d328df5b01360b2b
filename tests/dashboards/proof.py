"""The proof: a real gateway under load and faults, a real Prometheus that scrapes it, and what
was seen.

Every entry of the crowd is traced, and a collector receives the spans until it is killed.

The replicas are scraped twice: as in Kubernetes, with the labels namespace, release and pod, and
as by hand, with none. Boards and rules have to work with both. What was scraped stays with the
running Prometheus after the gateway is gone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from tests.dashboards.asking import KUBERNETES, Scraped
from tests.dashboards.crowd import SECRET, open_crowd
from tests.dashboards.rules_files import rule_files
from tests.dashboards.troubles import LIMIT, Pushes, Troubles, metrics_of
from tests.faults.replicas import Replica
from tests.servers import binaries
from tests.servers.prometheus import Prometheus, Target
from tests.servers.proxy import Proxy
from tests.servers.standalone import Options, Server
from tests.telemetry.collector import Collector

REPLICAS = 2
PUBLISH_TOKEN = "the token of these tests, of more than thirty-two bytes"
DURABLE = Options(durable=True, config={"appendfsync": "always"})
#: Small bounds, so that what takes minutes elsewhere takes seconds here.
SETTINGS: dict[str, object] = {
    "auth.secret": SECRET,
    "auth.token_in_query": "true",
    "source.kind": "none",
    "publish.token": PUBLISH_TOKEN,
    "slots.limit": LIMIT,
    "slots.lease_s": 3.0,
    "slots.renew_s": 0.5,
    # Longer than the machine may be busy: who is counted on one replica only is told of no limit.
    "slots.wait_s": 5.0,
    "dispatch.sweep_s": 2.0,
    "redis.reply_timeout_s": 5.0,
    "redis.connect_timeout_s": 1.0,
    "redis.heartbeat_s": 0.5,
    "redis.backoff_max_s": 0.3,
    "topic.linger_s": 1.0,
    "topic.terminal_grace_s": 0.1,
    "viewer.high_water_bytes": 16_384,
    "viewer.low_water_bytes": 4_096,
    "viewer.notsent_lowat_bytes": 4_096,
    "viewer.close_timeout_s": 1.0,
    "tracing.exporter": "otlp",
    "tracing.send_every_s": 0.1,
    "tracing.timeout_s": 0.5,
    "drain.delay_s": 1.0,
    "drain.window_s": 3.0,
    "server.shutdown_timeout_s": 2.0,
}


def _targets(replicas: list[Replica]) -> list[Target]:
    found = []
    for replica in replicas:
        address = f"{replica.host}:{replica.admin_port}"
        found.append(Target("kubernetes", address, {**KUBERNETES, "pod": replica.pod}))
        found.append(Target("by-hand", address, {}))
    return found


async def perform() -> Scraped:
    """The whole performance; the caller closes `prometheus`."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(binaries.embedded(), DURABLE))
        link = await stack.enter_async_context(Proxy((server.host, server.port)))
        pushes = Pushes(link)  # before anybody connects
        url = f"redis://{link.address}/0"
        collector = stack.enter_context(Collector())
        settings = {**SETTINGS, "tracing.endpoint": collector.endpoint}
        replicas = [Replica(n, url, settings, auth="jwt") for n in range(REPLICAS)]
        for replica in replicas:
            stack.callback(replica.close)
        await asyncio.gather(*(replica.start() for replica in replicas))
        prometheus = Prometheus(_targets(replicas), rule_files=rule_files())
        try:
            await prometheus.start()
            start_s = time.time()
            client = await stack.enter_async_context(
                server.client(socket_timeout=1.0, socket_connect_timeout=1.0)
            )
            async with open_crowd(client, replicas, PUBLISH_TOKEN) as crowd:
                await Troubles(server, pushes, crowd, prometheus, collector).all()
                exposed = await metrics_of(replicas[0])
            mishaps = [mishap for replica in replicas for mishap in replica.mishaps()]
            assert not mishaps, "\n".join(mishaps)
        except BaseException:
            prometheus.close()
            raise
        delivered = frozenset(span.trace for span in collector.named("deliver"))
        return Scraped(prometheus, start_s, time.time(), exposed, delivered)
