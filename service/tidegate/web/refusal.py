"""What a viewer is told when it cannot be let in: one row per error, for every way in.

A socket says it with an `error` frame and a close code, HTTP with a status and problem+json
(RFC 9457). The status of a close code above 4400 is that code without the 4000.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tidegate.core.ports import Sender
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode, ComeBack
from tidegate.model.errors import (
    InvalidInput,
    Overloaded,
    RedisUnavailable,
    StreamUnusable,
    TidegateError,
)
from tidegate.model.frames import error_frame
from tidegate.web.auth.refusals import Refused

#: The same as at the door: another replica may serve at once.
RETRY_AFTER_S = 2


class Refusal(NamedTuple):
    """A row: the close code, the name for programs, the text for people."""

    close: CloseCode
    code: str
    message: str
    details: Mapping[str, object] = MappingProxyType({})

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.close.come_back is not ComeBack.NO

    @property
    def status(self) -> int:
        """As an HTTP status."""
        return http_status(self.close)


def http_status(close: CloseCode) -> int:
    """The HTTP status that says the same as this close code."""
    if close.code >= 4400:
        return close.code - 4000
    return 503 if close.come_back is not ComeBack.NO else 204


def refusal_of(error: TidegateError) -> Refusal:
    """The row of an error. Raises it again when it is none that a viewer should see."""
    match error:
        case Refused():
            return Refusal(error.close, error.code, str(error), error.details)
        case InvalidInput():
            return Refusal(close_codes.BAD_REQUEST, "bad_request", str(error))
        case RedisUnavailable():
            return Refusal(close_codes.OVERLOADED, "redis_unavailable", str(error))
        case Overloaded():
            return Refusal(close_codes.OVERLOADED, "overloaded", str(error))
        case StreamUnusable():
            return Refusal(close_codes.NOT_FOUND, "not_a_stream", str(error))
    raise error


def refuse(sender: Sender, row: Refusal) -> None:
    """Say why on a socket, then close it."""
    if sender.visit is not None:
        sender.visit.closed(row.close, row.code)
    if sender.writable:
        sender.write(error_frame(row.code, row.message, retry=row.retry, details=row.details))
    sender.close(row.close)
