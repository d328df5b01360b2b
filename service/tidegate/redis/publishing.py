"""A backend's side of the contract, for the command line: plain ``XADD``, synchronous.

This is what a backend in any language does; nothing here is known to the gateway.
Errors of the client library leave as ``RedisUnavailable`` with readable text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from tidegate.model.ids import OperationId
from tidegate.model.settings import RedisSettings, redact_url
from tidegate.model.times import iso_time
from tidegate.redis.address import Deployment, client_options, parse_address, sentinel_options
from tidegate.redis.errors import CLIENT_ERRORS, translate_for
from tidegate.redis.names import cancel_key


def message(type_: str, data: Mapping[str, object]) -> str:
    """The text of the ``message`` field: ``timestamp`` (UTC, ISO 8601), ``type``, ``data``."""
    now = iso_time(datetime.now(UTC))
    text = json.dumps(
        {"timestamp": now, "type": type_, "data": data},
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )
    # Half a surrogate pair can be written as an escape only.
    return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one for one in text)


class _Opened:
    """A connection to wherever ``redis.url`` leads, until it is closed.

    Raises:
        SettingsError, RedisUnavailable: from the constructor too.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._prefix = settings.key_prefix
        self._shown_url = redact_url(settings.url.get_secret_value())
        try:
            self._client = open_client(settings)
        except CLIENT_ERRORS as error:  # a Cluster is asked for its slots at once
            raise translate_for(self._shown_url, error) from None

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


class EntryWriter(_Opened):
    """Appends messages to the streams of operations."""

    def __init__(self, settings: RedisSettings, *, maxlen: int | None = 1000) -> None:
        super().__init__(settings)
        self._maxlen = maxlen

    def publish(self, operation: OperationId, text: str) -> str:
        """``XADD <prefix><operation> MAXLEN ~ n * message <text>``; the new entry's id."""
        try:
            entry_id = self._client.xadd(
                self._prefix + operation,
                {"message": text},
                maxlen=self._maxlen,
                approximate=True,
            )
        except CLIENT_ERRORS as error:
            raise translate_for(self._shown_url, error) from None
        return str(entry_id)

    def cancel_requested(self, operation: OperationId) -> bool:
        """``EXISTS {<prefix><operation>}:cancel``: whether someone asks to cancel it."""
        key = cancel_key(self._prefix + operation)
        try:
            return key is not None and bool(self._client.exists(key))
        except CLIENT_ERRORS as error:
            raise translate_for(self._shown_url, error) from None

    def remove(self, operation: OperationId) -> None:
        """Delete the operation's stream and the key beside it; for what was a demonstration."""
        stream = self._prefix + operation
        try:
            for key in filter(None, (stream, cancel_key(stream))):
                self._client.unlink(key)
        except CLIENT_ERRORS as error:
            raise translate_for(self._shown_url, error) from None


class Listener(_Opened):
    """Reads what is appended to one operation's stream after the first call of `wait`."""

    def __init__(self, settings: RedisSettings, operation: OperationId) -> None:
        super().__init__(settings)
        self._key = self._prefix + operation
        self._timeout_s = settings.reply_timeout_s
        self._last = ""

    def wait(self, seconds: float) -> list[str]:
        """The ``message`` fields of what has come since the last call, or comes within the time."""
        try:
            if not self._last:
                newest: Any = self._client.xrevrange(self._key, count=1)
                self._last = newest[0][0] if newest else "0-0"
            # Waiting must end before the client takes the silence for a fault; 0 is forever.
            block_ms = max(1, int(min(seconds, self._timeout_s / 2) * 1000))
            found: Any = self._client.xread({self._key: self._last}, count=100, block=block_ms)
        except CLIENT_ERRORS as error:
            raise translate_for(self._shown_url, error) from None
        entries = [entry for _, entries in found for entry in entries]
        if entries:
            self._last = entries[-1][0]
        return [fields.get("message", "") for _, fields in entries]


def open_client(settings: RedisSettings) -> redis.Redis | RedisCluster:
    """A client that never tries again by itself."""
    address = parse_address(settings)
    # The client's own retry would append twice when only the reply was lost.
    options = client_options(address, settings) | {
        "decode_responses": True,
        # What is not UTF-8 comes through, instead of breaking the read of what stands beside it.
        "encoding_errors": "surrogateescape",
        "retry": Retry(NoBackoff(), 0),
    }
    first = address.nodes[0]
    match address.deployment:
        case Deployment.CLUSTER:
            nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
            return RedisCluster(startup_nodes=nodes, **options)
        case Deployment.SENTINEL:
            hosts = [(node.host, node.port) for node in address.nodes]
            asking = sentinel_options(address, settings, options["retry"])
            sentinel = Sentinel(hosts, sentinel_kwargs=asking, **options)
            master: redis.Redis = sentinel.master_for(str(address.service), db=address.db)
            return master
        case Deployment.STANDALONE if first.path is not None:
            return redis.Redis(unix_socket_path=first.path, db=address.db, **options)
        case Deployment.STANDALONE:
            return redis.Redis(host=first.host, port=first.port, db=address.db, **options)
