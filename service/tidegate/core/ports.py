"""The ports of the gateway: what it needs from Redis and from a socket, without naming either.

`StreamListener` is what the Redis side calls; `Feed` and `Log` are what it offers; `Sender` is one
viewer's socket. All callbacks run on the event loop and never block.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tidegate.core.clock import ServerClock
from tidegate.core.connection_record import ConnectionRecord
from tidegate.core.reading import Reader
from tidegate.core.records import Ask, Page, Relay, StreamInfo
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import TidegateError
from tidegate.model.ids import OperationId, StreamId


class StreamListener(Protocol):
    """Follows one stream. Calls arrive in the order in which the server sent them."""

    def on_relay(self, relay: Relay) -> None:
        """Entries were dispatched by some replica."""

    def on_page(self, page: Page) -> None:
        """The answer to an attach or to `Feed.read`."""

    def on_seen(self, last: bytes) -> None:
        """The id of the stream's newest entry at this moment; empty when there is none."""

    def on_detached(self) -> None:
        """The connection is lost; an attach follows when it is back."""

    def on_failed(self, error: TidegateError) -> None:
        """This stream cannot be followed."""

    @property
    def resume_after(self) -> StreamId | None:
        """Where the next attach reads from; None for the newest entries."""


class Feed(Protocol):
    """Follows streams on behalf of listeners."""

    def watch(self, operation: OperationId, listener: StreamListener) -> None:
        """Attach now, and again whenever the connection was lost."""

    def unwatch(self, operation: OperationId) -> None:
        """Stop following; this replica's consumer is removed."""

    def read(self, operation: OperationId, after: StreamId) -> None:
        """Read a page; the answer comes to `on_page`, in order with the relay."""

    def clock(self, operation: OperationId) -> ServerClock | None:
        """Of the server by whose clock this stream's ids are made; None while it has no home."""


class Cork(Protocol):
    """Brackets what one read from Redis brings, so that what follows from it is done together."""

    def begin(self) -> None:
        """Hold back."""

    def end(self) -> None:
        """Do it now."""


class Pages(Protocol):
    """A stream, read in pages."""

    async def after(self, operation: OperationId, after: StreamId) -> Page:
        """A page of entries above `after`. Raises RedisUnavailable."""

    async def locate(
        self, operation: OperationId, newest: int | None
    ) -> tuple[StreamInfo, StreamId]:
        """The position just before the newest `newest` entries (None: all). Raises
        RedisUnavailable.
        """


class Log(Protocol):
    """Reads streams for viewers, apart from the feed."""

    def turn(self, operation: OperationId, by: str) -> AbstractAsyncContextManager[Pages]:
        """A turn at reading this operation, shared fairly between users; `by` is who wants it
        (`Ask.by`). Held until what was read is dealt with, so that pages do not pile up. Raises
        RedisUnavailable when there is none for long.
        """


class SenderListener(Protocol):
    """What a socket tells the one who sends to it."""

    def on_paused(self) -> None:
        """The socket's buffer is above its mark; what was written is still sent."""

    def on_resumed(self) -> None:
        """The buffer has drained."""

    def on_closed(self) -> None:
        """The socket is gone."""


class Sender(Protocol):
    """One viewer's socket."""

    listener: SenderListener | None

    #: The buffer is below its mark and the socket open.
    writable: bool

    #: What is told of its connection; `NO_RECORD` where nobody wants to know.
    record: ConnectionRecord

    def write(self, batch: Batch) -> None:
        """Send these frames in the form that the viewer reads; `on_paused` is called before it
        returns when that fills the buffer.
        """

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what was written, then close. Safe to call twice."""


class SubscriptionService(Protocol):
    """Where viewers join. A viewer leaves when its sender is closed or lost."""

    def join(self, operation: OperationId, sender: Sender, ask: Ask) -> bool:
        """Join now if the operation is followed already; False: `await ready`, then join."""

    async def ready(self, operation: OperationId) -> None:
        """Follow the operation. Raises RedisUnavailable, StreamUnusable, Overloaded."""

    def acked(self, sender: Sender, entry_id: StreamId) -> None:
        """This viewer says that it has this entry."""

    @property
    def reader(self) -> Reader:
        """For those who do not stay."""
