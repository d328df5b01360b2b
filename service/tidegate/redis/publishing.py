"""A backend's side of the contract, for the command line: plain ``XADD``, synchronous.

This is what a backend in any language does; nothing here is known to the gateway.
Errors of the client library leave as ``RedisUnavailable`` with readable text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection, parse_url
from redis.retry import Retry

from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.model.settings import RedisSettings, redact_url


def message(type_: str, data: Mapping[str, object]) -> str:
    """The text of the ``message`` field: ``timestamp`` (UTC, ISO 8601), ``type``, ``data``."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {"timestamp": now, "type": type_, "data": data},
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )


class Publisher:
    """Appends messages to the streams of operations. One connection, opened at first use."""

    def __init__(self, settings: RedisSettings, *, maxlen: int | None = 1000) -> None:
        self._prefix = settings.key_prefix
        self._maxlen = maxlen
        self._shown_url = redact_url(settings.url.get_secret_value())
        self._client = _open_client(settings)

    def publish(self, operation: OperationId, text: str) -> str:
        """``XADD <prefix><operation> MAXLEN ~ n * message <text>``; the new entry's id."""
        try:
            entry_id = self._client.xadd(
                self._prefix + operation,
                {"message": text},
                maxlen=self._maxlen,
                approximate=True,
            )
        except redis.RedisError as error:
            raise RedisUnavailable(f"{self._shown_url}: {error}") from None
        return str(entry_id)

    def remove(self, operation: OperationId) -> None:
        """Delete the operation's stream; for what was only a demonstration."""
        try:
            self._client.unlink(self._prefix + operation)
        except redis.RedisError as error:
            raise RedisUnavailable(f"{self._shown_url}: {error}") from None

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_client(settings: RedisSettings) -> redis.Redis:
    """A client for one server; Sentinel and Cluster addresses are joined with the gateway's."""
    url = settings.url.get_secret_value()
    try:
        options = dict(parse_url(url))
    except ValueError as error:
        raise RedisUnavailable(f"{redact_url(url)}: {error}") from None
    options |= {
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": settings.reply_timeout_s,
        "decode_responses": True,
        # The client's own retry would append twice when only the reply was lost.
        "retry": Retry(NoBackoff(), 0),
    }
    if settings.username is not None:
        options["username"] = settings.username
    if settings.password is not None:
        options["password"] = settings.password.get_secret_value()
    if options.get("connection_class") is SSLConnection:
        options |= {
            "ssl_ca_certs": _text(settings.tls_ca_file),
            "ssl_certfile": _text(settings.tls_cert_file),
            "ssl_keyfile": _text(settings.tls_key_file),
            "ssl_check_hostname": settings.tls_check_hostname,
        }
    return redis.Redis.from_pool(ConnectionPool(**options))


def _text(path: object) -> str | None:
    return None if path is None else str(path)
