"""`GET /streams/{operation_id}`: an operation for readers of Durable Streams (`durable_protocol`).

The same entries as on every other way in, each a message of its own: what an offset has been
answered with does not change when more comes. At once, as a long poll, or as server-sent events;
a stream is closed when its operation has ended. What cannot be proven to follow the offset is 410,
since this protocol has no word for a gap: the client begins again at -1. Writing is publishing, and
refused here (405).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import ANSWERED, VIEWER_LEFT, ConnectionKind, Stage
from tidegate.core.ports import SubscriptionService
from tidegate.core.reading import EventsPage
from tidegate.core.records import Ask
from tidegate.model import close_codes
from tidegate.model.errors import TidegateError
from tidegate.model.ids import OperationId, StreamId, parse_operation_id
from tidegate.model.settings import Settings
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.http.durable_protocol import (
    Live,
    StreamQuery,
    event_of_page,
    headers_of,
    messages,
    next_cursor,
    read_query,
)
from tidegate.web.http.long_poll import LongPollWaiter
from tidegate.web.http.operations import (
    NO_STREAM,
    ReadRefused,
    ReadRoutes,
    WantedPage,
    matches,
    reads_as,
)
from tidegate.web.problem import Refusal, problem_of, send_response
from tidegate.web.schemas import NEEDS_VIEWER, STREAM_PARAMETERS, STREAM_RESPONSES, OperationPath

#: A client waits 20 s at the most.
LONG_POLL_S = 15.0
#: An event stream ends after so long, and the client goes on with the next: what has broken without
#: a word is noticed, and no proxy takes it for idle.
EVENTS_S = 50.0
JSON = "application/json"


class StreamRoutes:
    """What the route does."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        limiter: ConnectionLimiter,
        reading: ReadRoutes,
        *,
        page_entries: int,
    ) -> None:
        self._subscriptions = subscriptions
        self._limiter = limiter
        self._reading = reading
        self._page_entries = page_entries

    async def read(self, operation_id: str, request: Request) -> Response:
        """Any request that reads."""
        try:
            operation = parse_operation_id(operation_id)
            query = read_query(request.query_params.multi_items())
            if request.method == "HEAD":
                return await self._tail(operation, request, body=b"")
            if query.live is Live.EVENTS:
                return _Following(self, operation, request, query)
            if query.live is Live.LONG_POLL:
                return await self._long_poll(operation, request, query)
            if query.from_tail:
                return await self._tail(operation, request, body=messages(()))
            return await self._page(operation, request, query)
        except (TidegateError, ReadRefused) as error:
            return self._reading.refused(error)

    async def _tail(self, operation: OperationId, request: Request, *, body: bytes) -> Response:
        """Where the stream ends now."""
        waiter = LongPollWaiter()
        authorized, _ = await self._reading.admit(waiter, operation, request, counted=False)
        by = reads_as(authorized, request)
        state = await self._subscriptions.reader.state(operation, by=by)
        authorized.check()
        if state is None:
            raise ReadRefused(NO_STREAM)
        headers = headers_of(state.cursor, up_to_date=True, closed=state.finished)
        return Response(body, media_type=JSON, headers={**headers, "cache-control": "no-store"})

    async def _page(self, operation: OperationId, request: Request, query: StreamQuery) -> Response:
        waiter = LongPollWaiter()
        authorized, _ = await self._reading.admit(waiter, operation, request, counted=False)
        wanted = self._wanted(query.after)
        page = _proven(await self._reading.read(operation, wanted, reads_as(authorized, request)))
        authorized.check()
        body = messages(page.events)
        headers = _headers_of(page)
        tag = hashlib.blake2b(body + repr(headers).encode(), digest_size=12).hexdigest()
        # To be asked about each time, and only for who was allowed to see it.
        headers |= {
            "etag": f'"{tag}"',
            "cache-control": "private, no-cache",
            "vary": "authorization, cookie",
        }
        if matches(request.headers.getlist("if-none-match"), f'"{tag}"'):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=JSON, headers=headers)

    async def _long_poll(
        self, operation: OperationId, request: Request, query: StreamQuery
    ) -> Response:
        found = await self._reading.wait(
            operation,
            request,
            self._wanted(query.after),
            LONG_POLL_S,
            must_exist=True,
            from_tail=query.from_tail,
        )
        page = _proven(found)
        headers = _headers_of(page, next_cursor(query.cursor, time.time()))
        headers["cache-control"] = "no-store"
        if not page.events:
            return Response(status_code=204, headers=headers)
        return Response(messages(page.events), media_type=JSON, headers=headers)

    # -- server-sent events -----------------------------------------------------------------------

    async def follow(
        self,
        operation: OperationId,
        request: Request,
        query: StreamQuery,
        receive: Receive,
        send: Send,
    ) -> None:
        """Until the operation has ended, the time is over, or one of both goes."""
        refusal = self._limiter.refusal(asyncio.get_running_loop().time())
        if refusal is not None:
            row = Refusal(close_codes.OVERLOADED, refusal, "retry, or try another replica")
            await send_response(send, *problem_of(row))
            return
        waiter = _Follower()
        observer = self._limiter.observer
        headers = request.scope["headers"]
        record = waiter.record = observer.came(ConnectionKind.EVENT_STREAM, headers)
        record.about(operation)
        record.enter(Stage.ADMISSION)
        self._limiter.enter(waiter)
        try:
            authorized, _ = await self._reading.admit(waiter, operation, request, counted=True)
            by = reads_as(authorized, request)
            after = query.after
            if query.from_tail:
                state = await self._subscriptions.reader.state(operation, by=by)
                after = None if state is None else state.cursor
            page = _proven(await self._reading.page(waiter, operation, self._wanted(after), by))
            await send(_START)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVENTS_S):
                    await self._send_pages(waiter, operation, query, page, by, receive, send)
            record.told(0, ANSWERED)
        except (TidegateError, ReadRefused) as error:
            row = self._reading.row(error)
            record.closed(row.close, row.code)
            if not waiter.has_begun:
                await send_response(send, *problem_of(row))
        finally:
            waiter.leave()
            self._limiter.leave(waiter)
            record.told(0, VIEWER_LEFT)
            observer.left(record)
        if waiter.has_begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_pages(
        self,
        waiter: _Follower,
        operation: OperationId,
        query: StreamQuery,
        first: EventsPage,
        by: str,
        receive: Receive,
        send: Send,
    ) -> None:
        waiter.has_begun = True
        leaving = asyncio.create_task(_gone(receive, waiter), name="stream-gone")
        try:
            page, joined = first, False
            while True:
                body = event_of_page(
                    page.events,
                    page.cursor,
                    up_to_date=not page.more,
                    closed=_is_closed(page),
                    cursor=next_cursor(query.cursor, time.time()),
                )
                await send({"type": "http.response.body", "body": body, "more_body": True})
                waiter.record.wrote(len(page.events), len(body))
                if _is_closed(page) or waiter.closed:
                    return
                if not page.more:
                    if not joined:
                        await self._join(waiter, operation, Ask(page.cursor, 0, by=by))
                        joined = True
                    page = await self._next(waiter, operation, page.cursor, by)
                else:
                    page = await self._read(waiter, operation, page.cursor, by)
        finally:
            leaving.cancel()

    async def _join(self, waiter: _Follower, operation: OperationId, ask: Ask) -> None:
        while not waiter.closed and not self._subscriptions.join(operation, waiter, ask):
            await self._subscriptions.ready(operation)

    async def _next(
        self, waiter: _Follower, operation: OperationId, cursor: StreamId, by: str
    ) -> EventsPage:
        """The next page in which there is something to tell, or the last one."""
        while True:
            await waiter.rung()
            page = await self._read(waiter, operation, cursor, by)
            if page.events or _is_closed(page) or waiter.closed:
                return page

    async def _read(
        self, waiter: _Follower, operation: OperationId, cursor: StreamId, by: str
    ) -> EventsPage:
        return _proven(await self._reading.page(waiter, operation, self._wanted(cursor), by))

    def _wanted(self, after: StreamId | None) -> WantedPage:
        # Each of them: what an offset was answered with must not change.
        return WantedPage(after, self._page_entries, joined=False)


class _Follower(LongPollWaiter):
    """A waiter that rings more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = False

    async def rung(self) -> None:
        """Until there may be something new."""
        await self._rung.wait()
        if not self.closed:
            self._rung.clear()


class _Following(Response):
    """The response that `StreamRoutes.follow` sends."""

    def __init__(
        self, routes: StreamRoutes, operation: OperationId, request: Request, query: StreamQuery
    ) -> None:
        super().__init__()
        self._routes = routes
        self._operation = operation
        self._request = request
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await self._routes.follow(self._operation, self._request, self._query, receive, send)


_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}


async def _gone(receive: Receive, waiter: LongPollWaiter) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    waiter.record.told(0, VIEWER_LEFT)
    waiter.leave()


def _is_closed(page: EventsPage) -> bool:
    return page.state.finished and not page.more


def _headers_of(page: EventsPage, cursor: str | None = None) -> dict[str, str]:
    return headers_of(page.cursor, up_to_date=not page.more, closed=_is_closed(page), cursor=cursor)


def _proven(page: EventsPage | None) -> EventsPage:
    """Raises ReadRefused where there is no stream, or where entries may be missing."""
    if page is None:
        raise ReadRefused(NO_STREAM)
    if page.gap is not None:
        text = f"entries after this offset may be missing ({page.gap.reason.value}): read from -1"
        raise ReadRefused(Refusal(close_codes.EXPIRED, "gap", text))
    return page


def stream_routes(
    subscriptions: SubscriptionService,
    limiter: ConnectionLimiter,
    reading: ReadRoutes,
    settings: Settings,
) -> APIRouter:
    """The route, for the public port."""
    streams = StreamRoutes(
        subscriptions, limiter, reading, page_entries=settings.viewer.page_entries
    )
    router = APIRouter(tags=["reading"])
    extra = NEEDS_VIEWER if settings.server.auth == "jwt" else {}

    @router.head("/streams/{operation_id}", include_in_schema=False)
    @router.get(
        "/streams/{operation_id}",
        summary="An operation as a durable stream",
        responses=STREAM_RESPONSES,
        openapi_extra={**extra, "parameters": STREAM_PARAMETERS},
        response_class=Response,
    )
    async def read(operation_id: OperationPath, request: Request) -> Response:
        """Entries after an offset, for clients of Durable Streams. With an offset,
        `live=long-poll` waits for new entries, and `live=sse` sends them as they arrive; `cursor`
        is the `Stream-Cursor` of the previous response.
        """
        return await streams.read(operation_id, request)

    return router
