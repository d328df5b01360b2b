"""Every error that Tidegate raises on purpose.

TidegateError
├── InvalidInput               something from outside is not what the contract allows
│   ├── InvalidOperationId
│   ├── InvalidStreamId
│   └── InvalidRequest         a query parameter or a viewer's message
├── SettingsError              the start is refused: which setting, why, what is allowed
├── RedisUnavailable           Redis cannot be reached or cannot serve now; try again
│   ├── RedisForbidden         the ACL of the login does not allow a command or a key
│   └── WriteUncertain         the answer to a write was lost: perhaps it happened
├── RedisUnsupported           the server lacks something that cannot be done without
├── StreamUnusable             the key exists and is not a stream
├── Overloaded                 a named bound of this replica is reached
├── ViewerRefused              a gateway refused our viewer, with a close code or HTTP status
│   ├── SignInRequired         token missing, bad or expired (4401, 401)
│   ├── WatchForbidden         watching this operation is not allowed (4403, 403)
│   ├── OperationNotFound      there is no such operation (4404, 404)
│   ├── OperationExpired       its stream is gone (4410, 410)
│   └── TooManyConnections     the user's limit is reached (4429)
└── GatewayUnreachable         no replica answered our viewer

Errors carry fields; the text says what to do next.
"""

from __future__ import annotations


class TidegateError(Exception):
    """Base of all errors raised on purpose; its text is fit for a person."""


class InvalidInput(TidegateError):
    """Input from outside that the contract does not allow.

    Attributes:
        field: name of the input, as its sender knows it.
        reason: what is allowed.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidOperationId(InvalidInput):
    """An operation id with a forbidden length or character."""


class InvalidStreamId(InvalidInput):
    """A text that is not a stream id (`<ms>-<seq>`)."""


class InvalidRequest(InvalidInput):
    """A query parameter or a viewer's message that cannot be understood."""


class SettingsError(TidegateError):
    """Settings that cannot be used; `problems` holds one line for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RedisUnavailable(TidegateError):
    """Redis cannot be reached, or answers that it cannot serve at the moment.

    Attributes:
        detail: what is known of it, for a log: it may name servers, keys and logins.
    """

    def __init__(self, text: str, detail: str | None = None) -> None:
        super().__init__(text)
        self.detail = text if detail is None else detail


class RedisForbidden(RedisUnavailable):
    """The ACL of the login does not allow a command or a key."""


class WriteUncertain(RedisUnavailable):
    """The answer to a write was lost. Trying again may write twice, unless it has an idempotency
    key.
    """


class RedisUnsupported(TidegateError):
    """The server cannot do something that Tidegate needs; the text names it."""


class StreamUnusable(TidegateError):
    """The operation's key holds something that is not a stream."""


class Overloaded(TidegateError):
    """A bound of this replica is reached.

    Attributes:
        bound: the setting that names the bound.
    """

    def __init__(self, bound: str, limit: int) -> None:
        super().__init__(f"this replica is at its limit: {bound} = {limit}")
        self.bound = bound
        self.limit = limit


class ViewerRefused(TidegateError):
    """A gateway refused a viewer of the Python client.

    Attributes:
        code: the WebSocket close code, or the HTTP status of a refused handshake.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class SignInRequired(ViewerRefused):
    """The token is missing, bad or has expired."""


class WatchForbidden(ViewerRefused):
    """This user may not watch this operation."""


class OperationNotFound(ViewerRefused):
    """There is no such operation."""


class OperationExpired(ViewerRefused):
    """The operation's stream is gone."""


class TooManyConnections(ViewerRefused):
    """The user has as many connections as allowed."""


class GatewayUnreachable(TidegateError):
    """No replica answered for as long as the viewer has patience."""
