"""Reading without staying: the state of an operation, and its entries in pages.

What the HTTP API asks of the gateway. A page proves its continuity like everything else: what is
not proven comes with a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from tidegate.model.frames import GapReason
from tidegate.model.ids import OperationId, StreamId


class OperationState(NamedTuple):
    """The status as folded from the newest entries, and the position it holds for.

    Attributes:
        data: the whole state (`model.state_data`), where it was asked for.
    """

    status: str
    finished: bool
    cursor: StreamId
    data: Mapping[str, Any] = MappingProxyType({})


class Gap(NamedTuple):
    """Continuity between the two positions is not proven; `before` is None when nothing follows."""

    after: StreamId
    before: StreamId | None
    reason: GapReason


class EventsPage(NamedTuple):
    """Entries behind a position, in order.

    Attributes:
        events: their JSON texts.
        cursor: the position after them.
        more: there is something to read behind `cursor` already.
        gap: what is missing in front of the first one.
        state: of the operation; never newer than the page unless there is `more`.
    """

    events: Sequence[bytes]
    cursor: StreamId
    more: bool
    gap: Gap | None
    state: OperationState


class Reader(Protocol):
    """Reads from what is followed here, else from Redis. `by` is who asks, as in `Ask`."""

    async def state(self, operation: OperationId, *, by: str = "") -> OperationState | None:
        """None when there is no stream. Raises RedisUnavailable, StreamUnusable."""

    async def page(
        self,
        operation: OperationId,
        after: StreamId | None,
        limit: int,
        *,
        by: str = "",
        joined: bool = True,
    ) -> EventsPage | None:
        """At most `limit` entries above `after`; without it, from the first there is. `joined`:
        consecutive ones that append to a text are one event.

        None when there is no stream. Raises RedisUnavailable, StreamUnusable.
        """

    async def newest(
        self, operation: OperationId, count: int, *, by: str = ""
    ) -> Sequence[bytes] | None:
        """The JSON texts of the newest `count` entries, in order, as many as a page holds.

        None when there is no stream. Raises RedisUnavailable, StreamUnusable.
        """
