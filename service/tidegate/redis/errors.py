"""Translates every error of redis-py into one of ours; no other module does.

Texts of redis-py name servers, keys and logins, and one lists the options of all its pools. Viewers
must not see that: `translate` returns one of our texts, chosen by the kind of the error, with the
original as `detail` for the log of the operators of Redis.

    with a key that holds something else    StreamUnusable
    a write that may have happened          WriteUncertain
    everything else                         RedisUnavailable
"""

from __future__ import annotations

import re
from typing import Final

import redis.asyncio.sentinel
import redis.sentinel
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from tidegate.model.errors import (
    RedisForbidden,
    RedisUnavailable,
    StreamUnusable,
    TidegateError,
    WriteUncertain,
)
from tidegate.model.ids import OperationId

#: What redis-py 8.1 raises when it cannot reach a server: its cluster errors are no `RedisError`s,
#: and a write to a connection that broke a moment ago is a RuntimeError of uvloop 0.23.
CLIENT_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)

#: Nobody said where the primary is, so nothing was sent to it. Each half of redis-py has its own.
NO_MASTER = (redis.sentinel.MasterNotFoundError, redis.asyncio.sentinel.MasterNotFoundError)

#: Of a call that never reached a server that would write.
_NEVER_SENT = (
    ResponseError,
    BusyLoadingError,
    AuthenticationError,
    MaxConnectionsError,
    *NO_MASTER,
    ConnectionRefusedError,
    FileNotFoundError,
)

#: The first that fits.
_WORDS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((MaxConnectionsError,), "all connections to Redis are in use"),
    ((BusyLoadingError,), "Redis is loading its data"),
    ((AuthenticationError, AuthorizationError), "Redis refused the login"),
    ((NoPermissionError,), "the Redis ACL does not permit this command"),
    ((ReadOnlyError,), "this Redis server is a replica"),
    ((OutOfMemoryError,), "Redis is out of memory"),
    (
        (AskError, TryAgainError, ClusterError, RedisClusterException),
        "the Redis Cluster is not serving this key at the moment",
    ),
    ((RedisTimeoutError, TimeoutError), "Redis did not answer in time"),
)
#: What OpenSSL says, without the names that follow: "Hostname mismatch, certificate is not ...".
_TLS = re.compile(r"\[SSL[^\]]*\] ([A-Za-z0-9 :-]{1,80})")
_CODE = re.compile(r"[A-Z]{3,20}(?= )")


def translate(error: BaseException, operation: OperationId | None = None) -> TidegateError:
    """What an error of redis-py means to who reads.

    Args:
        operation: whose stream the command was about.
    """
    unusable = _unusable(error, operation)
    kind = RedisForbidden if isinstance(error, NoPermissionError) else RedisUnavailable
    return unusable or kind(_text_of(error), in_words(error))


def translate_write(error: BaseException, operation: OperationId) -> TidegateError:
    """What it means for a write to the operation's stream, which perhaps happened."""
    unusable = _unusable(error, operation)
    if unusable is not None:
        return unusable
    text, detail = _text_of(error), in_words(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _NEVER_SENT):
            return RedisUnavailable(text, detail)
        cause = cause.__cause__ or cause.__context__
    perhaps = "the entry may or may not have been written"
    return WriteUncertain(f"{text}; {perhaps}", f"{detail}; {perhaps}")


def translate_for(where: str, error: BaseException) -> RedisUnavailable:
    """The same for a person at a terminal, who has given the address: named, and told all."""
    return RedisUnavailable(f"{where}: {in_words(error)}")


def in_words(error: BaseException) -> str:
    """What went wrong, for logs."""
    if isinstance(error, TidegateError):
        return getattr(error, "detail", "") or str(error)
    if isinstance(error, NO_MASTER):
        # Its own text lists the options of every connection that was tried.
        if AuthenticationError.__name__ in str(error):
            return "the Sentinels refuse the login; set redis.sentinel_password"
        return "no reachable Sentinel knows this primary"
    if isinstance(error, TimeoutError) and not str(error):
        return "no response in time"
    return str(error) or type(error).__name__


def _text_of(error: BaseException) -> str:
    if isinstance(error, NO_MASTER):
        return in_words(error)
    if tls := _TLS.search(str(error)):
        return f"TLS with Redis failed: {tls[1].strip()}"
    for kinds, text in _WORDS:
        if isinstance(error, kinds):
            return text
    if isinstance(error, ResponseError):
        code = _CODE.match(str(error))
        return f"Redis refused a command ({code[0] if code else 'ERR'})"
    return "Redis cannot be reached"


def _unusable(error: BaseException, operation: OperationId | None) -> StreamUnusable | None:
    if operation is None or not isinstance(error, ResponseError) or "WRONGTYPE" not in str(error):
        return None
    return StreamUnusable(f"the key of operation {operation} holds no stream")
