"""`POST /operations/{id}/cancel`: a viewer asks to stop an operation.

The same rules of access as for watching, and a right of its own (`access.cancels`). It changes
something, so a page of another site must not be able to send it with a user's cookie: a token from
a cookie needs an allowed `Origin`, as everywhere. The body is not read.
"""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from tidegate.model.errors import TidegateError
from tidegate.model.ids import parse_operation_id
from tidegate.model.settings import Settings
from tidegate.web.access.cancels import AlreadyEnded, CancelService
from tidegate.web.access.sessions import Admission, AuthorizedConnection
from tidegate.web.http.long_poll import LongPollWaiter
from tidegate.web.problem import problem, problem_of
from tidegate.web.request import RequestHead
from tidegate.web.schemas import CANCEL_RESPONSES, NEEDS_VIEWER, OperationPath


def cancel_routes(admission: Admission, cancels: CancelService, settings: Settings) -> APIRouter:
    """The route, for the public port."""
    router = APIRouter(tags=["cancelling"])
    extra = NEEDS_VIEWER if settings.server.auth == "jwt" else None

    @router.post(
        "/operations/{operation_id}/cancel",
        status_code=202,
        summary="Ask to cancel an operation",
        responses=CANCEL_RESPONSES,
        openapi_extra=extra,
        response_class=Response,
    )
    async def cancel(operation_id: OperationPath, request: Request) -> Response:
        """Viewers of the operation receive `cancelling`, and its worker is asked to stop; the
        operation ends when the worker does.

        The request is idempotent: it may be repeated if there was no response.
        """
        authorized = AuthorizedConnection(admission, LongPollWaiter())
        scope = request.scope
        head = RequestHead(scope["path"], scope["query_string"], scope["headers"], ())
        try:
            operation = parse_operation_id(operation_id)
            await authorized.enter(head, counted=False)
            by = _asks_as(authorized, request)
            done = await cancels.cancel(authorized, operation, by=by, way="http")
        except AlreadyEnded as error:
            headers, text = problem(409, error.code, str(error), retry=False)
            return Response(text, 409, headers)
        except TidegateError as error:
            status, headers, text = problem_of(admission.refusal(error))
            return Response(text, status, headers)
        body = {
            "operation": operation,
            "status": "cancelling",
            "id": done.entry_id,
            "repeated": done.repeated,
        }
        return Response(
            orjson.dumps(body), 202, {"cache-control": "no-store"}, media_type="application/json"
        )

    return router


def _asks_as(authorized: AuthorizedConnection, request: Request) -> str:
    """Whose rate it is: of those who are not known, all of one address have one."""
    if authorized.is_anonymous and request.client is not None:
        return f"address {request.client.host}"
    return authorized.reads_as
