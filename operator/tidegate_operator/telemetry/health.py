"""The port of health and metrics, bound before anything else so that a taken one ends the start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tidegate.model.errors import TidegateError


class Health(NamedTuple):
    """Whether all is well, and if not, why."""

    well: bool
    reason: str


@asynccontextmanager
async def serve_health(
    host: str,
    port: int,
    *,
    alive: Callable[[], Health],
    ready: Callable[[], Health],
    state: Callable[[], dict[str, Any]],
    registry: CollectorRegistry,
) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port. `::` is every address of both families.

    Raises:
        TidegateError: the address cannot be bound.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _answer(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(ready())

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def debug(_: web.Request) -> web.Response:
        return web.json_response(state())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/debug/state", debug)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        # asyncio restricts a socket for `::` to IPv6; without an address it takes both families.
        site = web.TCPSite(runner, None if host == "::" else host, port)
        try:
            await site.start()
        except OSError as error:
            raise TidegateError(
                f"port: cannot listen on {host}:{port}: {error.strerror}; "
                "give another port, or 0 for any free one"
            ) from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _answer(health: Health) -> web.Response:
    body = {"ok": health.well, "reason": health.reason}
    return web.json_response(body, status=200 if health.well else 503)
