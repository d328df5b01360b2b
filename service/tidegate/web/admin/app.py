"""The admin port: health, readiness, metrics and debug endpoints. It is not for viewers and must
not be reachable from public networks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, Header, HTTPException, Path, Query, Response
from prometheus_client import CollectorRegistry

from tidegate.core.revocation import Revocation
from tidegate.model.errors import InvalidInput, RedisUnavailable
from tidegate.model.settings import ServerSettings
from tidegate.web.admin.console import console_routes
from tidegate.web.admin.debug import Inspector, check_token, debug_routes
from tidegate.web.admin.exposition import METRICS_OFF, exposition
from tidegate.web.admin.gateway import GatewayInspector, gateway_routes
from tidegate.web.auth.verifier import TIME_MAX, TOKEN_ID_MAX_LENGTH
from tidegate.web.http.cors import SafeAnswers

UserName = Annotated[str, Path(min_length=1, max_length=256)]
Reason = Annotated[str, Query(max_length=64, pattern=r"^[a-z_]*$")]
Bearer = Annotated[str, Header()]
TokenId = Annotated[str | None, Query(min_length=1, max_length=TOKEN_ID_MAX_LENGTH)]
IssuedBefore = Annotated[float | None, Query(ge=0, le=TIME_MAX, allow_inf_nan=False)]


class Readiness(NamedTuple):
    """Whether viewers may be sent here, and why not."""

    ready: bool
    reason: str


#: Closes the connections of a user or of an operation everywhere: kind, name, reason.
Disconnect = Callable[[str, str, str], Awaitable[int]]
#: Takes tokens back everywhere, and closes the connections that came in with them; the reason.
Revoke = Callable[[Revocation, str], Awaitable[int]]


def admin_app(
    server: ServerSettings,
    *,
    readiness: Callable[[], Readiness],
    inside: Inspector,
    gateway: GatewayInspector,
    registry: CollectorRegistry | None,
    disconnect: Disconnect,
    revoke: Revoke,
) -> FastAPI:
    """The application of the admin port.

    Health, readiness and metrics are open to whoever reaches it; what changes something needs
    `server.admin_token`, and the look inside as `web.admin.debug` has it. Without a registry there
    are no metrics.
    """
    app = FastAPI(
        title="Tidegate admin",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host the request names
    )

    app.add_middleware(SafeAnswers)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """200 while the process responds. Redis is not checked: a restart would not help."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        now = readiness()
        response.status_code = 200 if now.ready else 503
        return now._asdict()

    @app.get("/metrics")
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        if registry is None:
            raise HTTPException(404, METRICS_OFF)
        return exposition(registry, accept)

    app.include_router(debug_routes(server, inside))
    app.include_router(gateway_routes(server, gateway))
    app.include_router(console_routes())

    async def tell_all(authorization: str, telling: Callable[[], Awaitable[int]]) -> dict[str, int]:
        if server.admin_token is None:
            raise HTTPException(403, "server.admin_token is not set; this request needs it")
        check_token(server, authorization)
        try:
            return {"replicas": await telling()}
        except InvalidInput as error:
            raise HTTPException(400, str(error)) from None
        except RedisUnavailable as error:
            raise HTTPException(503, str(error), {"Retry-After": "2"}) from None

    @app.post("/admin/users/{user:path}/disconnect")  # ids may have slashes: `sub` is often a URL
    async def disconnect_user(
        user: UserName,
        reason: Reason = "",
        token_id: TokenId = None,
        issued_before: IssuedBefore = None,
        authorization: Bearer = "",
    ) -> dict[str, int]:
        """Close all connections of a user on all replicas. With `token_id` or `issued_before`,
        revoke that token, or those issued before a time, and close the connections that use them.
        """
        if token_id is None and issued_before is None:
            return await tell_all(authorization, lambda: disconnect("user", user, reason))
        revocation = Revocation(user, token_id, issued_before)
        return await tell_all(authorization, lambda: revoke(revocation, reason))

    @app.post("/admin/operations/{operation}/disconnect")
    async def disconnect_operation(
        operation: UserName, reason: Reason = "", authorization: Bearer = ""
    ) -> dict[str, int]:
        """Disconnect all viewers of an operation on all replicas."""
        return await tell_all(authorization, lambda: disconnect("operation", operation, reason))

    return app
