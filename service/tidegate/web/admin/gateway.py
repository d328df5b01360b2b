"""`GET /debug/gateway/...` on the admin port: all replicas, as seen by any one of them.

The rules of `/debug` apply (`web.admin.debug.looking_inside`), because it contains names of
operations and users. Each request costs every replica something, so answers are shared and their
rate is limited (`GatewayInspector`).
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, HTTPException, Path, Query

from tidegate.model.errors import (
    InvalidOperationId,
    Overloaded,
    RedisUnavailable,
    StreamUnusable,
    TidegateError,
)
from tidegate.model.ids import OPERATION_ID_MAX_LENGTH, OperationId, parse_operation_id
from tidegate.model.operation_order import OperationOrder
from tidegate.model.settings import ServerSettings
from tidegate.web.admin.debug import looking_inside
from tidegate.web.auth.identity import USER_MAX_LENGTH

Search = Annotated[str, Query(max_length=OPERATION_ID_MAX_LENGTH)]
UserSearch = Annotated[str, Query(max_length=USER_MAX_LENGTH)]
UserName = Annotated[str, Path(min_length=1, max_length=USER_MAX_LENGTH)]


class GatewayInspector(Protocol):
    """What there is to see of all replicas, within bounds of rows, bytes and time."""

    async def overview(
        self, order: OperationOrder, search: str, user_search: str
    ) -> dict[str, Any]:
        """Replicas, and the first operations and users.

        Raises:
            Overloaded: too often.
        """

    async def operation(self, operation: OperationId) -> dict[str, Any]:
        """One operation on all replicas, its stream and its newest entries.

        Raises:
            Overloaded: too often.
            StreamUnusable: the key holds something else.
        """

    async def user(self, user: str) -> dict[str, Any]:
        """The slots of one user.

        Raises:
            RedisUnavailable: they cannot be read.
        """


def gateway_routes(server: ServerSettings, gateway: GatewayInspector) -> APIRouter:
    """All of them, for the admin port."""
    router = APIRouter(prefix="/debug/gateway", dependencies=[Depends(looking_inside(server))])

    @router.get("")
    async def overview(
        order: OperationOrder = OperationOrder.VIEWERS,
        search: Search = "",
        user_search: UserSearch = "",
    ) -> dict[str, Any]:
        try:
            return await gateway.overview(order, search.strip(), user_search.strip())
        except Overloaded as error:
            raise _too_often(error) from None

    @router.get("/operations/{operation}")
    async def operation(operation: str) -> dict[str, Any]:
        try:
            return await gateway.operation(parse_operation_id(operation))
        except InvalidOperationId as error:
            raise HTTPException(400, str(error)) from None
        except Overloaded as error:
            raise _too_often(error) from None
        except StreamUnusable as error:
            raise HTTPException(409, str(error)) from None

    @router.get("/users/{user:path}")  # ids may have slashes
    async def user(user: UserName) -> dict[str, Any]:
        try:
            return await gateway.user(user)
        except RedisUnavailable as error:
            raise HTTPException(503, str(error), {"Retry-After": "2"}) from None

    return router


def _too_often(error: TidegateError) -> HTTPException:
    return HTTPException(429, f"{error}; retry in a second", {"Retry-After": "1"})
