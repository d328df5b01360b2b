"""Cancelling by viewers: who may request it, how often, and how it is answered and logged.

One `CancelService` serves sockets and HTTP. A viewer must be allowed to watch the operation, and in
addition be permitted by the policy, by its token or by the operation source. Every request is
counted by its outcome and logged with its user; those above the rate limit are only counted, so
that they cannot fill the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import NamedTuple

import structlog

from tidegate.core.cancelling import (
    FAILED,
    FORBIDDEN,
    LIMITED,
    REFUSED,
    Canceller,
    CancelOutcome,
)
from tidegate.core.token_bucket import TokenBucket
from tidegate.model import close_codes
from tidegate.model.errors import TidegateError
from tidegate.model.ids import OperationId
from tidegate.model.settings import CancelSettings, Settings
from tidegate.web.access.renewal import Spawn
from tidegate.web.access.sessions import AuthorizedConnection
from tidegate.web.auth.identity import ANONYMOUS
from tidegate.web.auth.patterns import matches
from tidegate.web.auth.sources import Allowed
from tidegate.web.problem import Forbidden, Refused

log = structlog.get_logger(__name__)


class CancelForbidden(Forbidden):
    """The user may watch the operation, and not cancel it."""

    def __init__(self) -> None:
        super().__init__("cancel_forbidden", "you are not allowed to cancel this operation")


class AlreadyEnded(Refused):
    """There is nothing to cancel any more; over HTTP 409."""

    def __init__(self) -> None:
        text = "the operation has ended already"
        super().__init__("already_ended", text, close_codes.BAD_REQUEST)


class NoStream(Refused):
    """The operation has none, or none yet, so no worker would see the request."""

    def __init__(self) -> None:
        text = "this operation has no stream, or none yet"
        super().__init__("no_stream", text, close_codes.NOT_FOUND)


class CancelBusy(Refused):
    """The operation changes too fast to tell whether it has ended."""

    def __init__(self) -> None:
        text = "the operation is being written to; retry"
        super().__init__("busy", text, close_codes.OVERLOADED, retry=True)


class TooManyCancels(Refused):
    """The user asks too often; over HTTP 429."""

    def __init__(self) -> None:
        text = "too many requests to cancel; retry in a few seconds"
        super().__init__("too_many_cancels", text, close_codes.CONNECTION_LIMIT, retry=True)


class Cancelling(NamedTuple):
    """The operation has been asked to stop; `repeated`: by an earlier request."""

    operation: OperationId
    entry_id: str
    repeated: bool


class UserRates:
    """How often each user may ask, for a bounded number of users."""

    def __init__(self, settings: CancelSettings) -> None:
        self._settings = settings
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, user: str, now: float) -> bool:
        """Whether this user may ask once more."""
        bucket = self._buckets.get(user)
        if bucket is None:
            bucket = TokenBucket(self._settings.user_per_s, self._settings.user_burst)
            self._buckets[user] = bucket
            if len(self._buckets) > self._settings.users_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(user)
        return bucket.take(now)


class CancelService:
    """One for all connections of a replica."""

    def __init__(self, canceller: Canceller, settings: Settings, spawn: Spawn) -> None:
        """`spawn`: starts the work for a message of a socket."""
        self._canceller = canceller
        self.spawn = spawn
        default = "viewers" if settings.server.auth == "none" else "granted"
        self._allow = settings.cancel.allow or default
        self._rates = UserRates(settings.cancel)
        #: Requests by what became of them; see `core.cancelling.OUTCOMES`.
        self.counts: Counter[str] = Counter()

    async def cancel(
        self, authorized: AuthorizedConnection, operation: OperationId, *, by: str, way: str
    ) -> Cancelling:
        """Ask for it on behalf of this connection.

        Args:
            by: whose rate and whose turn it is: `AuthorizedConnection.reads_as`, or narrower.
            way: by which it came, for the log.

        Raises:
            Refused: not allowed, too often, ended, or no such operation.
            RedisUnavailable: perhaps it was asked; the same request again is safe.
            StreamUnusable
        """
        if not self._rates.take(by, asyncio.get_running_loop().time()):
            self.counts[LIMITED] += 1
            raise TooManyCancels
        outcome = FAILED
        try:
            allowed = await authorized.allowed(operation)
            if not self._may(authorized, operation, allowed):
                raise CancelForbidden
            identity = authorized.principal.identity
            user = None if identity is ANONYMOUS else identity.user
            reply = await self._canceller.cancel(operation, user=user, by=by)
            outcome = reply.outcome.value
            match reply.outcome:
                case CancelOutcome.ALREADY_ENDED:
                    raise AlreadyEnded
                case CancelOutcome.NO_STREAM:
                    raise NoStream
                case CancelOutcome.BUSY:
                    raise CancelBusy
            repeated = reply.outcome is CancelOutcome.ALREADY_REQUESTED
            return Cancelling(operation, reply.entry_id, repeated)
        except CancelForbidden:
            outcome = FORBIDDEN
            raise
        except TidegateError as error:
            if isinstance(error, Refused) and outcome == FAILED:
                outcome = REFUSED  # before it came to that: the token, the source
            raise
        finally:
            self.counts[outcome] += 1
            log.info(
                "cancel requested",
                operation=operation,
                user=authorized.principal.identity.user,
                outcome=outcome,
                way=way,
            )

    def _may(
        self, authorized: AuthorizedConnection, operation: OperationId, allowed: Allowed
    ) -> bool:
        match self._allow:
            case "viewers":
                return True
            case "granted":
                patterns = authorized.principal.identity.cancels or ()
                return allowed.may_cancel or any(matches(one, operation) for one in patterns)
        return False
