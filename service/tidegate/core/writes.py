"""The port through which entries are appended on someone's behalf, and its records.

An append is all or nothing, and never tried again by whoever implements this: `WriteUncertain` says
that the answer was lost. With a `IdempotencyKey` the caller may try again as often as it likes.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tidegate.model.ids import OperationId

#: For `newest`: whatever the stream holds.
ANY = "*"


class Outcome(enum.Enum):
    """What became of an append."""

    ADDED = "added"
    #: An earlier call with this idempotency key has added them.
    KNOWN = "known"
    #: The idempotency key was used for another request.
    DIFFERS = "differs"
    #: The stream has grown since the caller looked.
    MOVED = "moved"


class Appended(NamedTuple):
    """The outcome, and the ids of the entries that are in the stream because of this request."""

    outcome: Outcome
    ids: tuple[str, ...]


class IdempotencyKey(NamedTuple):
    """An idempotency key, and what tells its request from another one. Only digests are kept."""

    key: str
    request: bytes

    @property
    def field(self) -> str:
        """The key, of a length that we choose."""
        return hashlib.sha256(self.key.encode(errors="surrogatepass")).hexdigest()[:32]

    @property
    def digest(self) -> str:
        """The request, likewise."""
        return hashlib.sha256(self.request).hexdigest()[:32]


class Writer(Protocol):
    """Appends to streams."""

    async def append(
        self,
        operation: OperationId,
        texts: Sequence[str | bytes],
        *,
        once: IdempotencyKey | None = None,
        newest: str = ANY,
        remove: bool = False,
        ends: bool = False,
        lists: bool = False,
    ) -> Appended:
        """Append entries whose `message` fields are `texts`.

        Args:
            newest: append only while this is the id of the stream's newest entry.
            remove: delete the stream behind them; viewers get them all the same.
            ends: the operation ends with them, so nobody asks to cancel it any more.
            lists: it is a feed, of which less is kept, and for longer.

        Raises:
            RedisUnavailable: nothing was written. Its kind WriteUncertain: perhaps it was.
            StreamUnusable: the key holds something else.
        """

    async def remove(self, operation: OperationId) -> bool:
        """Delete the stream; whether there was one.

        Raises:
            RedisUnavailable: it may still be there.
        """
