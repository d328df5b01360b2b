"""The admin port: health, readiness, metrics and a look inside. Not for viewers; keep it off the
public network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class Readiness(NamedTuple):
    """Whether viewers may be sent here, and why not."""

    ready: bool
    reason: str


def admin_app(
    readiness: Callable[[], Readiness],
    state: Callable[[], dict[str, Any]],
    registry: CollectorRegistry,
) -> FastAPI:
    """The application of the admin port."""
    app = FastAPI(title="Tidegate admin", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers. Says nothing of Redis: a restart would not bring it back."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        now = readiness()
        response.status_code = 200 if now.ready else 503
        return now._asdict()

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/debug/state")
    async def debug_state() -> dict[str, Any]:
        return state()

    return app
