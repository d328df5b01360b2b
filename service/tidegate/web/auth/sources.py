"""Operation sources: may this user watch this operation, and what is its state?

This is the port, and the sources without a backend: `none` (every authenticated user), `claims`
(the token lists operations) and `redis` (a hash for each operation). Each returns `Allowed` or
raises a refusal. A source that cannot decide raises `SourceFailed`, and the viewer is refused.

The hash of an operation; all fields are optional:

    owner        a user who may watch
    users        a JSON list of users who may watch, or `*` for every authenticated user
    may_cancel   a JSON list of those of them who may cancel, or `*` for all of them
    status       shown as `status` in the state
    state        a JSON object, the rest of the state

Without a hash there is no such operation. If the hash names no user, no one may watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import orjson
import structlog

from tidegate.model.errors import TidegateError
from tidegate.model.ids import OperationId
from tidegate.web.auth.credentials import Token
from tidegate.web.auth.identity import Identity
from tidegate.web.auth.patterns import matches
from tidegate.web.problem import Forbidden, NotFound, SourceFailed

log = structlog.get_logger(__name__)


class Allowed(NamedTuple):
    """The user may watch. `state` is a JSON object; None: it is folded from the stream.

    Several viewers may be given the same object: read it only.

    Attributes:
        may_cancel: the source says that the user may cancel the operation, too.
    """

    state: Mapping[str, Any] | None = None
    may_cancel: bool = False


class OperationSource(Protocol):
    """Says who may watch what."""

    async def check(
        self, identity: Identity, token: Token | None, operation: OperationId
    ) -> Allowed:
        """Whether this user may watch this operation.

        Raises:
            Forbidden, NotFound: they may not.
            SourceFailed: it cannot be told now.
        """

    async def close(self) -> None:
        """Give up what is open."""


class OperationHashes(Protocol):
    """Reads the hashes of operations; `tidegate.redis` implements it."""

    async def read(self, operation: OperationId) -> Mapping[str, bytes] | None:
        """Those of the fields above that are there; None when there is no hash.

        Raises:
            TidegateError: Redis is away, or the key holds something else.
        """


def forbidden() -> Forbidden:
    """The one text for all sources: it must not tell why, nor whether the operation exists."""
    return Forbidden("forbidden", "you are not allowed to watch this operation")


class AnySource:
    """`none`: everyone who is authenticated may watch everything."""

    async def check(
        self,
        identity: Identity,  # noqa: ARG002 - the port's
        token: Token | None,  # noqa: ARG002
        operation: OperationId,  # noqa: ARG002
    ) -> Allowed:
        """Yes."""
        return Allowed()

    async def close(self) -> None:
        """Nothing is open."""


class ClaimsSource:
    """`claims`: the token lists operations, or patterns with `*`."""

    async def check(
        self,
        identity: Identity,
        token: Token | None,  # noqa: ARG002 - the port's
        operation: OperationId,
    ) -> Allowed:
        """Whether one of the token's patterns covers the operation."""
        if any(matches(pattern, operation) for pattern in identity.operations or ()):
            return Allowed()
        raise forbidden()

    async def close(self) -> None:
        """Nothing is open."""


class HashSource:
    """`redis`: the operation's hash names who may watch."""

    def __init__(self, hashes: OperationHashes, *, timeout_s: float, max_state_bytes: int) -> None:
        self._hashes = hashes
        self._timeout_s = timeout_s
        self._max_state_bytes = max_state_bytes

    async def check(
        self,
        identity: Identity,
        token: Token | None,  # noqa: ARG002 - the port's
        operation: OperationId,
    ) -> Allowed:
        """Whether the hash names this user."""
        try:
            async with asyncio.timeout(self._timeout_s):
                fields = await self._hashes.read(operation)
        except (TidegateError, TimeoutError) as error:
            raise source_failed("redis", operation, str(error) or "no response in time") from None
        if fields is None:
            raise NotFound
        try:
            if not _names(identity.user, fields):
                raise forbidden()
            return Allowed(
                self._state(fields), _named(identity.user, fields.get("may_cancel"), "may_cancel")
            )
        except ValueError as error:
            raise source_failed("redis", operation, f"the hash has {error}") from None

    async def close(self) -> None:
        """The Redis connections belong to others."""

    def _state(self, fields: Mapping[str, bytes]) -> Mapping[str, Any] | None:
        state: dict[str, Any] = {}
        if "state" in fields:
            if len(fields["state"]) > self._max_state_bytes:
                raise ValueError("a state that is too large")
            state = _json(fields["state"], dict, "state")
        if "status" in fields:
            state["status"] = fields["status"][: self._max_state_bytes].decode(errors="replace")
        return state or None


def _names(user: str, fields: Mapping[str, bytes]) -> bool:
    if fields.get("owner") == user.encode():
        return True
    return _named(user, fields.get("users"), "users")


def _named(user: str, users: bytes | None, field: str) -> bool:
    if users is None:
        return False
    return users == b"*" or user in _json(users, list, field)


def says_may_cancel(state: Mapping[str, Any]) -> bool:
    """What the answer of a backend or a function grants, in its member `may_cancel`: true, and
    nothing that only looks like it.
    """
    return state.get("may_cancel") is True


def _json(raw: bytes, kind: type[Any], name: str) -> Any:
    try:
        value = orjson.loads(raw)
    except ValueError:
        raise ValueError(f"a field {name} that is not JSON") from None
    if not isinstance(value, kind):
        raise ValueError(f"a field {name} that is not JSON {kind.__name__}")
    return value


def source_failed(source: str, operation: OperationId, why: str) -> SourceFailed:
    """The error to raise, logged: only the log says why."""
    log.warning("operation source failed", source=source, operation=operation, why=why)
    return SourceFailed(why)
