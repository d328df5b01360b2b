"""`GET /operations/{id}` and `GET /operations/{id}/events`: reading an operation without watching
it.

The state is small and may be requested again with its `ETag`; a request for a page of events may
wait for the next event (long poll). Responses must not be cached by proxies. Errors are
problem+json.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from fastapi import APIRouter, Query, Request, Response

from tidegate.core.connection_record import ANSWERED, VIEWER_LEFT, ConnectionKind, Stage
from tidegate.core.ports import SubscriptionService
from tidegate.core.reading import EventsPage, Gap, OperationState
from tidegate.core.records import Ask
from tidegate.core.topic import UNKNOWN_STATUS
from tidegate.model import close_codes
from tidegate.model.errors import TidegateError
from tidegate.model.ids import ZERO, OperationId, StreamId, parse_operation_id, parse_stream_id
from tidegate.model.settings import Settings
from tidegate.model.state_data import known_data
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.access.sessions import Admission, AuthorizedConnection
from tidegate.web.http.long_poll import LongPollWaiter
from tidegate.web.problem import Refusal, problem_of, refusal_of
from tidegate.web.request import RequestHead
from tidegate.web.schemas import (
    NEEDS_VIEWER,
    PAGE_RESPONSES,
    POSITION,
    STATE_RESPONSES,
    OperationPath,
)

WAIT_MAX_S = 60.0
DEFAULT_LIMIT = 100

#: Not `not_found`: a stream may begin later, an operation that the source does not know may not.
NO_STREAM = Refusal(close_codes.NOT_FOUND, "no_stream", "this operation has no stream, or none yet")


class ReadRefused(Exception):
    """Carries a refusal to where it is answered."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class WantedPage(NamedTuple):
    """What a page is to contain; see `Reader.page`."""

    after: StreamId | None
    limit: int
    joined: bool


class ReadRoutes:
    """What the two routes do."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        limiter: ConnectionLimiter,
        admission: Admission,
        settings: Settings,
    ) -> None:
        self._subscriptions = subscriptions
        self._limiter = limiter
        self._admission = admission
        self._terminal = frozenset(settings.topic.terminal_statuses)

    async def state(self, operation_id: str, request: Request) -> Response:
        """The folded state."""
        try:
            operation = parse_operation_id(operation_id)
            authorized, known = await self.admit(
                LongPollWaiter(), operation, request, counted=False
            )
            state = await self._subscriptions.reader.state(
                operation, by=reads_as(authorized, request)
            )
            authorized.check()
            if state is None and not known:
                raise ReadRefused(NO_STREAM)
            body = orjson.dumps(self._state_body(operation, state, known))
        except (TidegateError, ReadRefused) as error:
            return self.refused(error)
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        # To be asked about each time, and only for who was allowed to see it.
        headers = {
            "etag": tag,
            "cache-control": "private, no-cache",
            "vary": "authorization, cookie",
        }
        if matches(request.headers.getlist("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def events(
        self,
        operation_id: str,
        request: Request,
        *,
        after: str,
        limit: int,
        wait_s: float,
        joined: bool,
    ) -> Response:
        """A page, at once or when there is something in it."""
        try:
            operation = parse_operation_id(operation_id)
            position = parse_stream_id(after, "after") if after else None
            wanted = WantedPage(position, limit, joined)
            if wait_s:
                page = await self.wait(operation, request, wanted, wait_s)
            else:
                authorized, _ = await self.admit(
                    LongPollWaiter(), operation, request, counted=False
                )
                by = reads_as(authorized, request)
                page = await self.read(operation, wanted, by)
                authorized.check()
            if page is None:
                raise ReadRefused(NO_STREAM)
        except (TidegateError, ReadRefused) as error:
            return self.refused(error)
        return Response(
            _page_body(operation, page),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    async def state_of(
        self, authorized: AuthorizedConnection, operation: OperationId, by: str
    ) -> dict[str, Any] | None:
        """What `state` answers about another operation to who was admitted already; None: there is
        none. Raises Refused, RedisUnavailable, StreamUnusable.
        """
        known: Mapping[str, Any] = {}
        if not authorized.is_free:
            known = (await authorized.allowed(operation)).state or {}
        state = await self._subscriptions.reader.state(operation, by=by)
        authorized.check()
        return None if state is None and not known else self._state_body(operation, state, known)

    # -- for each way of reading ------------------------------------------------------------------

    async def admit(
        self, waiter: LongPollWaiter, operation: OperationId, request: Request, *, counted: bool
    ) -> tuple[AuthorizedConnection, Mapping[str, Any]]:
        """Who asks, and what is known of the operation."""
        authorized = AuthorizedConnection(self._admission, waiter)
        scope = request.scope
        head = RequestHead(scope["path"], scope["query_string"], scope["headers"], ())
        await authorized.enter(head, counted=counted)
        known = {} if authorized.is_free else await authorized.authorise(operation)
        authorized.start_clock()
        return authorized, known

    async def wait(
        self,
        operation: OperationId,
        request: Request,
        wanted: WantedPage,
        wait_s: float,
        *,
        must_exist: bool = False,
        from_tail: bool = False,
    ) -> EventsPage | None:
        """A page, which is waited for while there is nothing in it. `must_exist`: a stream that has
        not begun is not waited for. `from_tail`: what comes from now on.
        """
        refusal = self._limiter.refusal(asyncio.get_running_loop().time())
        if refusal is not None:
            message = "retry, or try another replica"
            raise ReadRefused(Refusal(close_codes.OVERLOADED, refusal, message))
        waiter = LongPollWaiter()
        record = waiter.record = self._limiter.observer.came(
            ConnectionKind.LONG_POLL, request.scope["headers"]
        )
        record.about(operation)
        record.enter(Stage.ADMISSION)
        self._limiter.enter(waiter)
        try:
            authorized, _ = await self.admit(waiter, operation, request, counted=True)
            by = reads_as(authorized, request)
            if from_tail:
                state = await self._subscriptions.reader.state(operation, by=by)
                wanted = wanted._replace(after=None if state is None else state.cursor)
            page = await self.page(waiter, operation, wanted, by)
            if page is None and must_exist:
                raise ReadRefused(NO_STREAM)
            if page is None or not (page.events or page.gap or page.state.finished):
                cursor = (wanted.after or ZERO) if page is None else page.cursor
                ask = Ask(cursor, 0, by=by)
                await waiter.wait(self._subscriptions, operation, ask, request.receive, wait_s)
                page = await self.page(waiter, operation, wanted, by)
            if page is None:
                record.closed(NO_STREAM.close, NO_STREAM.code)
            else:
                record.wrote(len(page.events), sum(map(len, page.events)))
                record.told(0, ANSWERED)
        except (TidegateError, ReadRefused) as error:
            row = row_of(error)
            record.closed(row.close, row.code)
            raise
        finally:
            self._limiter.leave(waiter)
            record.told(0, VIEWER_LEFT)
            self._limiter.observer.left(record)
        return page

    async def page(
        self,
        waiter: LongPollWaiter,
        operation: OperationId,
        wanted: WantedPage,
        by: str,
    ) -> EventsPage | None:
        """A page, unless the right to it has ended by the time it is read."""
        page = None
        if waiter.refusal is None:
            page = await self.read(operation, wanted, by)
        if waiter.refusal is not None:
            raise ReadRefused(waiter.refusal)
        return page

    async def read(self, operation: OperationId, wanted: WantedPage, by: str) -> EventsPage | None:
        """See `Reader.page`."""
        return await self._subscriptions.reader.page(
            operation, wanted.after, wanted.limit, by=by, joined=wanted.joined
        )

    def row(self, error: TidegateError | ReadRefused) -> Refusal:
        """Why nothing is read."""
        return self._admission.refusal(error) if isinstance(error, TidegateError) else error.refusal

    def refused(self, error: TidegateError | ReadRefused) -> Response:
        """The same as an answer."""
        status, headers, body = problem_of(self.row(error))
        return Response(body, status, headers)

    # -- inside -----------------------------------------------------------------------------------

    def _state_body(
        self, operation: OperationId, state: OperationState | None, known: Mapping[str, Any]
    ) -> dict[str, Any]:
        """As in `current_state`: what the source says counts while the stream says nothing."""
        if state is None:
            status = str(known.get("status", UNKNOWN_STATUS))
            state = OperationState(status, status in self._terminal, ZERO)
        data = {**(known_data(known) if known else {}), **state.data, "status": state.status}
        return {
            "operation": operation,
            "status": state.status,
            "finished": state.finished,
            "cursor": str(state.cursor),
            "data": data,
        }


def reading_routes(reading: ReadRoutes, settings: Settings) -> APIRouter:
    """Both routes, for the public port."""
    router = APIRouter(tags=["reading"])
    largest = settings.viewer.page_entries
    extra = NEEDS_VIEWER if settings.server.auth == "jwt" else None

    @router.get(
        "/operations/{operation_id}",
        summary="The state of an operation",
        responses=STATE_RESPONSES,
        openapi_extra=extra,
        response_class=Response,
    )
    async def state(operation_id: OperationPath, request: Request) -> Response:
        """The state of the operation, computed from the stream, and the position that it is for.

        With `If-None-Match` the response is 304 if nothing has changed.
        """
        return await reading.state(operation_id, request)

    @router.get(
        "/operations/{operation_id}/events",
        summary="Events of an operation",
        responses=PAGE_RESPONSES,
        openapi_extra=extra,
        response_class=Response,
    )
    async def events(
        operation_id: OperationPath,
        request: Request,
        after: str = Query(
            default="",
            description="Events after this position: the `cursor` of the last page. "
            "Without it, from the first event.",
            json_schema_extra=POSITION,
        ),
        limit: int = Query(
            default=min(DEFAULT_LIMIT, largest),
            ge=1,
            le=largest,
            description="Maximum number of events; those that are joined count individually.",
        ),
        joined: bool = Query(
            default=True,
            description="Whether consecutive events whose `data.text` continues a text (setting "
            "`topic.append_types`) are one event, with their number in its `joined`.",
        ),
        wait: float = Query(
            default=0.0,
            ge=0,
            le=WAIT_MAX_S,
            allow_inf_nan=False,
            description="Seconds to wait for the next event, or for the operation to begin, "
            "when there is none.",
        ),
    ) -> Response:
        """A page of events in order. Ask again with `after` = `cursor` until it has `finished` and
        not `more`.
        """
        return await reading.events(
            operation_id, request, after=after, limit=limit, wait_s=wait, joined=joined
        )

    return router


def _page_body(operation: OperationId, page: EventsPage) -> bytes:
    """The events' texts go in as they are."""
    rest: dict[str, Any] = {
        "cursor": str(page.cursor),
        "more": page.more,
        "gap": _gap_body(page.gap),
        "status": page.state.status,
        "finished": page.state.finished,
    }
    return b'{"operation":"%b","events":[%b],%b' % (
        operation.encode(),
        b",".join(page.events),
        orjson.dumps(rest)[1:],
    )


def _gap_body(gap: Gap | None) -> dict[str, str] | None:
    if gap is None:
        return None
    body = {"after": str(gap.after), "reason": gap.reason.value}
    return body if gap.before is None else {**body, "before": str(gap.before)}


def matches(given: list[str], tag: str) -> bool:
    """`If-None-Match` (RFC 9110 section 13.1.2), by the weak comparison."""
    tags = [text.strip() for line in given for text in line.split(",")]
    return "*" in tags or any(text.removeprefix("W/") == tag for text in tags)


def reads_as(authorized: AuthorizedConnection, request: Request) -> str:
    """As `AuthorizedConnection.reads_as`; all requests of one anonymous connection count as one."""
    if authorized.is_anonymous and request.client is not None:
        return f"connection {request.client.host}:{request.client.port}"
    return authorized.reads_as


def row_of(error: TidegateError | ReadRefused) -> Refusal:
    return error.refusal if isinstance(error, ReadRefused) else refusal_of(error)
