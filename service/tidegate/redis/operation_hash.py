"""Reads the hash of an operation for the operation source `redis`: who may watch, and its state.

Only the fields that are used are read, so that whatever else a backend stores in the hash costs
nothing and is not exposed. A hash without any of them is treated as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import ResponseError

from tidegate.model.errors import TidegateError
from tidegate.model.ids import OperationId
from tidegate.redis.concurrency import ConcurrencyLimiter
from tidegate.redis.errors import CLIENT_ERRORS, translate
from tidegate.redis.topology import Topology

FIELDS = ("owner", "users", "status", "state", "may_cancel")
#: `HMGET` has no bound of its own; a longer field is the backend's mistake.
FIELD_MAX_BYTES = 1_048_576


class OperationHashUnusable(TidegateError):
    """The key holds no hash, or one with a field that is too long."""


class OperationHash:
    """The hashes `<prefix><operation_id>`."""

    def __init__(self, topology: Topology, prefix: str) -> None:
        self._topology = topology
        self._turns = ConcurrencyLimiter(topology)
        self._prefix = prefix

    async def read(self, operation: OperationId) -> Mapping[str, bytes] | None:
        """The fields that are there; None when there are none.

        Raises:
            RedisUnavailable, OperationHashUnusable
        """
        client: Any = self._topology.client
        key = self._prefix + operation
        try:
            async with self._turns.at(key):
                values = await client.hmget(key, FIELDS)
        except CLIENT_ERRORS as error:
            if isinstance(error, ResponseError) and "WRONGTYPE" in str(error):
                raise OperationHashUnusable(f"the key {key} holds no hash") from None
            raise translate(error) from None
        found = {name: raw for name, raw in zip(FIELDS, values, strict=True) if raw is not None}
        for name, raw in found.items():
            if len(raw) > FIELD_MAX_BYTES:
                raise OperationHashUnusable(f"the key {key} has a field {name} that is too long")
        return found or None
