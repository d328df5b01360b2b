"""`GET /debug/...` on the admin port: the internal state of a replica, for its operators.

It contains names of operations, so it requires `server.admin_token`. If that is not set, it is
available only on an admin port that is bound to loopback, and only if the request names loopback as
its host, because a page whose own name resolves to 127.0.0.1 could read it otherwise.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Header, HTTPException, Query

from tidegate.model.errors import InvalidOperationId, RedisUnavailable, StreamUnusable
from tidegate.model.ids import OperationId, parse_operation_id
from tidegate.model.operation_order import OperationOrder
from tidegate.model.settings import ServerSettings
from tidegate.web.auth.host import host_name, is_loopback

TASKS_MAX = 1_000
DEFAULT_TASKS = 100
OPERATIONS_MAX = 500
DEFAULT_OPERATIONS = 50

Bearer = Annotated[str, Header()]
Host = Annotated[str, Header()]


class Inspector(Protocol):
    """What there is to see."""

    def state(self) -> dict[str, Any]:
        """The replica as a whole; no ids of users or operations."""

    async def operations(self, most: int, order: OperationOrder) -> dict[str, Any]:
        """Operations followed here, `most` of them, those that are first in this order."""

    async def operation(self, operation: OperationId) -> dict[str, Any] | None:
        """One operation; None when it is not followed here and has no stream.

        Raises:
            RedisUnavailable: it is not followed here, and Redis does not answer.
            StreamUnusable: the key holds something else.
        """

    def tasks(self, most: int) -> dict[str, Any]:
        """The tasks of the event loop, `most` of them one by one."""


def check_token(server: ServerSettings, authorization: str) -> None:
    """Raises 401 unless it is `server.admin_token` as a bearer token, which must be set."""
    token = server.admin_token
    expected = "" if token is None else token.get_secret_value()
    if not expected or not secrets.compare_digest(
        _bearer(authorization).encode(errors="replace"), expected.encode()
    ):
        raise HTTPException(
            401,
            "send Authorization: Bearer <server.admin_token>",
            {"WWW-Authenticate": "Bearer"},
        )


def _bearer(authorization: str) -> str:
    """What follows the scheme, whose name may be in any case (RFC 9110 section 11.1)."""
    scheme, _, rest = authorization.partition(" ")
    return rest if scheme.lower() == "bearer" else ""


def looking_inside(server: ServerSettings) -> Callable[..., Awaitable[None]]:
    """A dependency that lets in who may look."""
    is_local = is_loopback(server.admin_host)

    async def check(authorization: Bearer = "", host: Host = "") -> None:
        if server.admin_token is not None:
            check_token(server, authorization)
        elif not is_local:
            raise HTTPException(
                403,
                "the debug endpoints need server.admin_token, or server.admin_host on loopback",
            )
        elif not is_loopback(host_name(host)):
            raise HTTPException(
                403, "use a loopback address or localhost, or set server.admin_token"
            )

    return check


def debug_routes(server: ServerSettings, inside: Inspector) -> APIRouter:
    """All of them, for the admin port."""
    router = APIRouter(prefix="/debug", dependencies=[Depends(looking_inside(server))])

    @router.get("/state")
    async def state() -> dict[str, Any]:
        return inside.state()

    @router.get("/operations")
    async def operations(
        limit: Annotated[int, Query(ge=1, le=OPERATIONS_MAX)] = DEFAULT_OPERATIONS,
        order: OperationOrder = OperationOrder.VIEWERS,
    ) -> dict[str, Any]:
        return await inside.operations(limit, order)

    @router.get("/operations/{operation}")
    async def operation(operation: str) -> dict[str, Any]:
        try:
            found = await inside.operation(parse_operation_id(operation))
        except InvalidOperationId as error:
            raise HTTPException(400, str(error)) from None
        except RedisUnavailable as error:
            raise HTTPException(503, str(error), {"Retry-After": "2"}) from None
        except StreamUnusable as error:
            raise HTTPException(409, str(error)) from None
        if found is None:
            raise HTTPException(404, "the operation has no viewers on this replica and no stream")
        return found

    @router.get("/tasks")
    async def tasks(
        limit: Annotated[int, Query(ge=1, le=TASKS_MAX)] = DEFAULT_TASKS,
    ) -> dict[str, Any]:
        return inside.tasks(limit)

    return router
