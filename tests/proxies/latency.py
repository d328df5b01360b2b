"""How much later an event arrives through each proxy than without one:

    python -m tests.proxies.latency [rounds]

In every round one entry is written for each path, after the one before has arrived. The table is
in docs/proxies.md.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.proxies.conftest import two_replicas
from tests.proxies.programs import those_here
from tests.proxies.test_paths import events, next_entry
from tests.servers.tls import Certificates

ROUNDS = 300


async def measure(certificates: Certificates, rounds: int) -> dict[str, list[float]]:
    """Milliseconds from before the `XADD` to the event, for each path."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(two_replicas(certificates))
        redis = await stack.enter_async_context(gateway.redis.client())
        first = gateway.replicas[0]
        clients = {"no proxy": plain_client(f"http://{first.host}:{first.port}")}
        for kind in those_here():
            proxy = await stack.enter_async_context(kind(gateway.site))
            clients[proxy.program] = proxy.client(http2=True)
        streams: dict[str, AsyncIterator[dict[str, object]]] = {}
        for name, client in clients.items():
            await stack.enter_async_context(client)
            path = f"/sse/operations/{name.replace(' ', '-')}"
            answer = await stack.enter_async_context(client.stream("GET", path))
            streams[name] = events(answer)
        took: dict[str, list[float]] = {name: [] for name in streams}
        backend = Backend(redis)
        for _ in range(rounds):
            for name, stream in streams.items():
                began = time.perf_counter()
                written = await backend.publish(name.replace(" ", "-"))
                if await next_entry(stream) != written:
                    raise AssertionError(f"{name}: another entry")
                took[name].append((time.perf_counter() - began) * 1000)
        return took


def table(took: dict[str, list[float]]) -> str:
    """Markdown."""
    lines = ["| path | median | 99 % |", "|---|---|---|"]
    for name, figures in took.items():
        cuts = statistics.quantiles(figures, n=100)
        lines.append(f"| {name} | {cuts[49]:.1f} ms | {cuts[98]:.1f} ms |")
    return "\n".join(lines)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        print(table(asyncio.run(measure(Certificates(Path(folder)), rounds))))  # noqa: T201
