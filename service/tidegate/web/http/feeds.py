"""`GET /feeds/{id}`: the operations that a feed lists, newest first, each with its state.

The feed is authorised like an operation, and so is each operation in it: one that its viewer may
not watch is listed, as the feed's own entries say it, and has no state. The states are those of
`GET /operations/{id}`, read a few at a time and in turn with the reads of other users.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from tidegate.core.feeds import LISTED_MAX, Listed, newest_first
from tidegate.core.reading import Reader
from tidegate.model.errors import StreamUnusable, TidegateError
from tidegate.model.ids import parse_operation_id
from tidegate.model.settings import Settings
from tidegate.web.access.sessions import AuthorizedConnection
from tidegate.web.http.long_poll import LongPollWaiter
from tidegate.web.http.operations import NO_STREAM, ReadRefused, ReadRoutes, reads_as
from tidegate.web.problem import Forbidden, NotFound, SourceFailed
from tidegate.web.schemas import FEED_RESPONSES, NEEDS_VIEWER, OperationPath

DEFAULT_LIMIT = 20
#: Entries that are looked through: an operation may be listed again, by a retry.
ENTRIES = 2 * LISTED_MAX
#: States that are asked for at a time: an operation source may take a while for each.
AT_ONCE = 4


def feed_routes(reading: ReadRoutes, reader: Reader, settings: Settings) -> APIRouter:
    """The route, for the public port."""
    router = APIRouter(tags=["reading"])
    extra = NEEDS_VIEWER if settings.server.auth == "jwt" else None

    @router.get(
        "/feeds/{operation_id}",
        summary="The operations of a feed",
        responses=FEED_RESPONSES,
        openapi_extra=extra,
        response_class=Response,
    )
    async def feed(
        operation_id: OperationPath,
        request: Request,
        limit: int = Query(
            default=DEFAULT_LIMIT, ge=1, le=LISTED_MAX, description="Maximum number."
        ),
    ) -> Response:
        """Newest first, each with its state. For a live list, watch the feed."""
        try:
            name = parse_operation_id(operation_id)
            authorized, _ = await reading.admit(LongPollWaiter(), name, request, counted=False)
            by = reads_as(authorized, request)
            entries = await reader.newest(name, ENTRIES, by=by)
            if entries is None:
                raise ReadRefused(NO_STREAM)
            listed = newest_first(map(_loaded, entries), limit)
            operations = await _with_states(reading, authorized, listed, by)
            authorized.check()
        except (TidegateError, ReadRefused) as error:
            return reading.refused(error)
        return Response(
            orjson.dumps({"feed": name, "operations": operations}),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    return router


async def _with_states(
    reading: ReadRoutes, authorized: AuthorizedConnection, listed: list[Listed], by: str
) -> list[dict[str, Any]]:
    """Raises what concerns the request and not one operation."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(item: Listed) -> dict[str, Any]:
        shown: dict[str, Any] = {"operation": item.operation, "title": item.title}
        shown["listed"] = item.entry_id
        async with turns:
            try:
                state = await reading.state_of(authorized, item.operation, by)
                code = NO_STREAM.code
            except (Forbidden, NotFound, SourceFailed) as refused:
                state, code = None, refused.code
            except StreamUnusable:
                state, code = None, "not_a_stream"
        return {**shown, **(state or {"status": None, "finished": None, "code": code})}

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one(item), name="feed-state") for item in listed]
    except ExceptionGroup as group:
        raise _first(group) from None
    return [task.result() for task in running]


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else group


def _loaded(entry: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(entry)
    except ValueError:  # half a surrogate pair, which other readers take
        return {}
    return found if isinstance(found, dict) else {}
