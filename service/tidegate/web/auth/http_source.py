"""The operation source `http`: asks the backend, with the viewer's own token.

    GET <url>/<operation_id>    Authorization: Bearer <the viewer's token>

    200    may watch; a JSON object is the state, an empty body is none; with `"may_cancel": true`
           in it the viewer may cancel the operation, too
    204    may watch
    401, 403              may not
    400, 404, 410, 422    no such operation, or no id of one
    everything else, also a page of HTML or a redirect: cannot tell

Answers hold for `cache_s` for the same user, token and operation, "no such operation" for a second
at most, because a page often connects a moment before the backend has stored what it started.
Failures are not kept. One user cannot shut out the others: of the requests at a time each has a
share, and the breaker leaves the backend alone when it has failed (no answer, 5xx, 3xx) for several
users in a row. An answer that is merely of no use does not count, nor does 429, which tells one
user to slow down.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from typing import TypeAlias

import orjson
import structlog

from tidegate.concurrency.single_flight import SingleFlightCache
from tidegate.model.ids import OperationId
from tidegate.model.settings import SourceSettings
from tidegate.web.auth.breaker import Breaker
from tidegate.web.auth.credentials import Token
from tidegate.web.auth.fetch import Answer, AnswerUnusable, Fetcher, FetchFailed, NoCapacity
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.auth.sources import Allowed, forbidden, says_may_cancel
from tidegate.web.problem import NotFound, SourceFailed

NOT_FOUND_HOLDS_S = 1.0
#: Of `source.max_requests`, one user has this part at a time, so that several slow ones are needed
#: before anyone waits.
SHARE = 1 / 4

log = structlog.get_logger(__name__)


class Denied(enum.Enum):
    """The backend's answers that let nobody in."""

    FORBIDDEN = "forbidden"
    NOT_FOUND = "not found"


Verdict: TypeAlias = Allowed | Denied


class HttpSource:
    """Asks `<url>/<operation_id>`; `clock` is monotonic."""

    def __init__(
        self,
        settings: SourceSettings,
        fetcher: Fetcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = (settings.url or "").rstrip("/")
        self._cache_s = settings.cache_s
        self._fetcher = fetcher
        self._clock = clock
        self.answers: SingleFlightCache[Verdict] = SingleFlightCache(settings.cache_entries, clock)
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_open_s)

    async def check(
        self, identity: Identity, token: Token | None, operation: OperationId
    ) -> Allowed:
        """Whether the backend lets this user watch."""
        # With the token: a narrower one of the same user must not profit from a wider one.
        key = (identity.user, None if token is None else token.fingerprint(), operation)
        # Who is not known is nobody in particular: what they watch tells them apart.
        user = operation if identity is ANONYMOUS else identity.user
        verdict = await self.answers.get(
            key, lambda: self._ask(user, token, operation), self._holds_s
        )
        match verdict:
            case Denied.FORBIDDEN:
                raise forbidden()
            case Denied.NOT_FOUND:
                raise NotFound
            case allowed:
                return allowed

    async def close(self) -> None:
        """Close idle connections."""
        await self._fetcher.close()

    def _holds_s(self, verdict: Verdict) -> float:
        if verdict is Denied.NOT_FOUND:
            return min(self._cache_s, NOT_FOUND_HOLDS_S)
        return self._cache_s

    async def _ask(self, user: str, token: Token | None, operation: OperationId) -> Verdict:
        if not self.breaker.may_pass(user, self._clock()):
            raise SourceFailed(
                "the backend is failing; requests are suspended (circuit breaker open)"
            )
        try:
            # All characters of an operation id may stand in a path as they are (RFC 3986, 3.3).
            url = f"{self._url}/{operation}"
            verdict = _verdict(await self._fetcher.get(url, token, user=user))
        except FetchFailed as error:
            opened = self.breaker.opened
            match error:
                case NoCapacity():
                    self.breaker.given_up()
                case AnswerUnusable():
                    self.breaker.worked(self._clock())
                case _:
                    self.breaker.failed(user, self._clock())
            log.warning(
                "operation source failed",
                source="http",
                operation=operation,
                why=str(error),
                suspended=self.breaker.opened > opened,
            )
            raise SourceFailed(str(error)) from None
        except asyncio.CancelledError:
            self.breaker.given_up()
            raise
        self.breaker.worked(self._clock())
        return verdict


def _verdict(answer: Answer) -> Verdict:
    match answer.status:
        case 200 | 204:
            if not answer.body:
                return Allowed()
            try:
                state = orjson.loads(answer.body)
            except ValueError:
                raise AnswerUnusable("the response is not JSON") from None
            if not isinstance(state, dict):
                raise AnswerUnusable("the response is not a JSON object")
            return Allowed(state, says_may_cancel(state))
        case 401 | 403:
            return Denied.FORBIDDEN
        case 400 | 404 | 410 | 422:
            return Denied.NOT_FOUND
        case status if 400 <= status < 500:
            raise AnswerUnusable(f"responded with status {status}")
        case status:
            raise FetchFailed(f"responded with status {status}")
