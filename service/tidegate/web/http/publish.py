"""`POST /operations/{id}/events` and `DELETE /operations/{id}`: for backends without Redis.

A request is one entry (a JSON object) or a batch (a JSON array, or NDJSON), and is written as a
whole or not at all. The texts are written unchanged, after a check that viewers can read them. With
an `Idempotency-Key` a request may be repeated for a day; the key is checked in the same step as the
write.

The service token is required; if it is not set, publishing is disabled.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from tidegate.core.ports import Pages
from tidegate.core.writes import IdempotencyKey, Outcome, Writer
from tidegate.model.damaged import BOM, split_array
from tidegate.model.entries import MALFORMED_TYPE, Entry, RawEntry, read_entry
from tidegate.model.errors import (
    InvalidOperationId,
    RedisUnavailable,
    StreamUnusable,
    WriteUncertain,
)
from tidegate.model.ids import OperationId, StreamId, parse_operation_id, stream_id
from tidegate.model.settings import Settings
from tidegate.model.times import iso_time
from tidegate.web.http.body import Body, BodyTooLarge
from tidegate.web.problem import problem
from tidegate.web.schemas import PUBLISH_BODY, PUBLISH_RESPONSES, OperationPath

JSON_TYPES = frozenset({"application/json", ""})
LINE_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
#: How far back the status of an operation is looked for before it is ended.
NEWEST = 100
#: An operation that grows all the time is looked at so often before its end is given up.
TRIES = 5
_SOME_ID = StreamId(1, 0)

#: Gives an update that is in no stream to the viewers of this replica; how many had it.
SayHere = Callable[[OperationId, bytes], int]


class PublishRejected(Exception):
    """A request that is not carried out. Its fields make the problem+json answer."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry = retry
        self.headers = headers or {}

    def response(self, *, close: bool = False) -> Response:
        """The answer; `close` the connection behind it, because its body was not read."""
        headers, body = problem(self.status, self.code, self.detail, retry=self.retry)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        headers |= self.headers
        if close:
            headers["connection"] = "close"
        return Response(body, self.status, headers)


class Publishing:
    """What the two routes do."""

    def __init__(
        self, writer: Writer, history: Pages, settings: Settings, say_here: SayHere | None = None
    ) -> None:
        self._writer = writer
        self._history = history
        self._say_here = say_here
        self._settings = settings.publish
        self._max_entry_bytes = settings.dispatch.max_entry_bytes - len("message")
        self._rules = settings.topic.terminal_rules()
        tokens = (settings.publish.token, settings.publish.previous_token)
        self._tokens = [token.get_secret_value().encode() for token in tokens if token is not None]

    # -- the routes -------------------------------------------------------------------------------

    async def publish(
        self, operation_id: str, request: Request, credentials: str | None, *, local: bool
    ) -> Response:
        """Append what the body says."""
        body = Body(request)
        try:
            self._check_token(credentials)
            operation = _operation(operation_id)
            key = _idempotency_key(request)
            _check_coding(request)
            content = await self._read(body)
            texts, ends = self._texts(_media_type(request), content)
            once = IdempotencyKey(key, content) if key else None
            return await self._append(operation, texts, once, ends=ends, local=local)
        except PublishRejected as rejected:
            return rejected.response(close=not await body.skip())

    async def remove(self, operation_id: str, credentials: str | None) -> Response:
        """End the operation, unless it has ended, and delete its stream."""
        try:
            self._check_token(credentials)
            operation = _operation(operation_id)
            for _ in range(TRIES):
                answer = await self._try_remove(operation)
                if answer is not None:
                    return answer
            raise PublishRejected(
                409, "busy", "the operation is being written to; retry", retry=True
            )
        except PublishRejected as rejected:
            return rejected.response()
        except RedisUnavailable as error:
            return PublishRejected(503, "redis_unavailable", str(error), retry=True).response()
        except StreamUnusable as error:
            return PublishRejected(409, "not_a_stream", str(error)).response()

    # -- inside -----------------------------------------------------------------------------------

    def _check_token(self, given: str | None) -> None:
        if not self._tokens:
            raise PublishRejected(
                403, "publishing_off", "the setting publish.token is not set here"
            )
        if given is None:
            raise PublishRejected(
                401, "unauthenticated", "send the service token as a bearer token"
            )
        raw = given.encode(errors="surrogateescape")
        # All of them are compared, whichever fits: the time tells nothing.
        fits = [secrets.compare_digest(raw, token) for token in self._tokens]
        if not any(fits):
            raise PublishRejected(401, "unauthenticated", "this is not the service token")

    async def _read(self, body: Body) -> bytes:
        most = self._settings.max_body_bytes
        try:
            return await body.read(most, self._settings.body_timeout_s)
        except BodyTooLarge:
            text = f"the body has more than {most} bytes (publish.max_body_bytes)"
            raise PublishRejected(413, "too_large", text) from None
        except TimeoutError:
            raise PublishRejected(
                408, "slow_body", "the body did not arrive in time", retry=True
            ) from None
        except ClientDisconnect:
            raise PublishRejected(400, "bad_request", "the body is not complete") from None

    def _texts(self, media_type: str, body: bytes) -> tuple[list[bytes], bool]:
        """The entries of a body, each checked, and whether the operation ends with them."""
        most = self._settings.max_batch
        body = body.removeprefix(BOM)
        if media_type in LINE_TYPES:
            texts = [line.strip() for line in body.split(b"\n", most * 2 + 1) if line.strip()]
        elif media_type in JSON_TYPES:
            texts = _split(body)
        else:
            raise PublishRejected(
                415,
                "media_type",
                "send application/json or application/x-ndjson, in UTF-8",
                headers={"accept": "application/json, application/x-ndjson"},
            )
        if not texts:
            raise PublishRejected(400, "bad_request", "the body contains no entry")
        if len(texts) > most:
            raise PublishRejected(
                413, "too_large", f"more than {most} entries in one request; send several"
            )
        last = self._rules.deciding(self._check(*numbered) for numbered in enumerate(texts))
        return texts, last is not None and self._rules.is_terminal(last)

    def _check(self, number: int, text: bytes) -> Entry:
        """The entry, which a viewer will get as it is meant."""
        if len(text) > self._max_entry_bytes:
            raise PublishRejected(
                413,
                "too_large",
                f"entry {number} has {len(text)} bytes, and viewers get at most "
                f"{self._max_entry_bytes} (dispatch.max_entry_bytes)",
            )
        if text[:1] != b"{":
            raise PublishRejected(400, "bad_request", f"entry {number} is not a JSON object")
        entry = read_entry(_SOME_ID, RawEntry(b"1-0", [b"message", text]))
        if not entry.is_whole:
            reason = json.loads(entry.data)["reason"]  # orjson refuses half a surrogate pair
            raise PublishRejected(400, "bad_request", f"entry {number}: {reason}")
        if entry.type == MALFORMED_TYPE:
            raise PublishRejected(
                400, "bad_request", f"entry {number}: this type is reserved for the gateway"
            )
        return entry

    async def _append(
        self,
        operation: OperationId,
        texts: list[bytes],
        once: IdempotencyKey | None,
        *,
        ends: bool,
        local: bool,
    ) -> Response:
        try:
            done = await self._writer.append(operation, texts, once=once, ends=ends)
        except WriteUncertain as error:
            # Without a key a second try may publish twice: that is the caller's to decide.
            raise PublishRejected(503, "uncertain", str(error), retry=once is not None) from None
        except RedisUnavailable as error:
            if local and self._say_here is not None:
                reached = [self._say_here(operation, text) for text in texts]
                return _json(202, {"operation": operation, "ids": [], "viewers": max(reached)})
            raise PublishRejected(503, "redis_unavailable", str(error), retry=True) from None
        except StreamUnusable as error:
            raise PublishRejected(409, "not_a_stream", str(error)) from None
        if done.outcome is Outcome.DIFFERS:
            raise PublishRejected(
                422, "key_reused", "this Idempotency-Key was used for another request"
            )
        answer = _json(201, {"operation": operation, "ids": done.ids})
        if done.outcome is Outcome.KNOWN:
            answer.headers["idempotent-replayed"] = "true"
        return answer

    async def _try_remove(self, operation: OperationId) -> Response | None:
        """None: it was written to in the meantime."""
        info, before = await self._history.locate(operation, NEWEST)
        if not info.exists:
            raise PublishRejected(404, "not_found", "there is no such operation")
        page = await self._history.after(operation, before)
        last = self._rules.deciding(read_entry(stream_id(raw.id), raw) for raw in page.entries)
        if last is not None and self._rules.is_terminal(last):
            await self._writer.remove(operation)
            status = self._rules.status_of(last)
            return _json(200, {"operation": operation, "status": status, "ids": []})
        now = iso_time(datetime.now(UTC))
        text = orjson.dumps(
            {
                "timestamp": now,
                "type": "operation_cancelled",
                "data": {"status": "cancelled", "reason": "removed"},
            }
        )
        done = await self._writer.append(operation, [text], newest=str(page.info.last), remove=True)
        if done.outcome is Outcome.MOVED:
            return None
        return _json(200, {"operation": operation, "status": "cancelled", "ids": done.ids})


_bearer = HTTPBearer(
    auto_error=False, scheme_name="service", description="`publish.token` of the gateway"
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def publishing_routes(
    writer: Writer, history: Pages, settings: Settings, say_here: SayHere | None = None
) -> APIRouter:
    """Both routes, for the public port."""
    publishing = Publishing(writer, history, settings, say_here)
    router = APIRouter(tags=["publishing"])

    @router.post(
        "/operations/{operation_id}/events",
        status_code=201,
        summary="Publish entries",
        responses=PUBLISH_RESPONSES,
        openapi_extra=PUBLISH_BODY,
        response_class=Response,
    )
    async def publish(
        operation_id: OperationPath,
        request: Request,
        credentials: Credentials,
        fallback: Annotated[
            str | None,
            Query(
                pattern="^local$",
                description="`local`: if Redis is unavailable, send the entries to the viewers of "
                "this replica only; the response is then 202, with the number of viewers.",
            ),
        ] = None,
    ) -> Response:
        """Append one entry (a JSON object) or several (an array, or NDJSON), all or nothing.

        With an `Idempotency-Key` header the same request may be sent again within a day.
        """
        token = None if credentials is None else credentials.credentials
        return await publishing.publish(operation_id, request, token, local=fallback == "local")

    @router.delete(
        "/operations/{operation_id}",
        summary="End and remove an operation",
        responses=PUBLISH_RESPONSES,
        response_class=Response,
    )
    async def remove(operation_id: OperationPath, credentials: Credentials) -> Response:
        """Deletes the stream of the operation. Unless the operation had ended, it is cancelled, and
        its viewers receive that as its last entry.
        """
        token = None if credentials is None else credentials.credentials
        return await publishing.remove(operation_id, token)

    return router


def _operation(text: str) -> OperationId:
    try:
        return parse_operation_id(text)
    except InvalidOperationId as error:
        raise PublishRejected(400, "bad_request", str(error)) from None


def _media_type(request: Request) -> str:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    name, _, charset = parameters.strip().partition("=")
    if name.lower() == "charset" and charset.strip('" ').lower() not in ("utf-8", "utf8"):
        return "another charset"
    return media_type.strip().lower()


def _check_coding(request: Request) -> None:
    """A compressed body may be a thousand times larger than what came, so none is unpacked."""
    codings = ",".join(request.headers.getlist("content-encoding")).lower()
    if any(word.strip() not in ("", "identity") for word in codings.split(",")):
        raise PublishRejected(
            415,
            "content_encoding",
            "send the body without Content-Encoding (only identity is allowed)",
            headers={"accept-encoding": "identity"},
        )


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0].strip(" \t")
    if len(key) > 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or _KEY.fullmatch(key) is None:
        raise PublishRejected(
            400,
            "bad_request",
            "Idempotency-Key: once, 1 to 255 printable ASCII characters, no space",
        )
    return key


def _split(body: bytes) -> list[bytes]:
    """One object, or the elements of an array."""
    body = body.strip(b" \t\r\n")
    if body[:1] != b"[":
        return [body] if body else []
    try:
        return [bytes(one) for one in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (ValueError, RecursionError) as error:
        try:
            return split_array(body)
        except ValueError:
            raise PublishRejected(400, "bad_request", f"JSON: {error}") from None


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(
        orjson.dumps(body), status, {"cache-control": "no-store"}, media_type="application/json"
    )
