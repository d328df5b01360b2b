"""A request that waits for the next entry: a `Sender` that only notifies.

What is sent to it is discarded. It wakes the request, which then reads its page like any other. So
a long poll has the same order, limits and gaps, and costs only its connection while it waits.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from tidegate.core.connection_record import NO_RECORD, VIEWER_LEFT, ConnectionRecord
from tidegate.core.ports import SenderListener, SubscriptionService
from tidegate.core.records import Ask
from tidegate.model.batch import Batch
from tidegate.model.close_codes import DRAINING, CloseCode
from tidegate.model.frames import ErrorFrame, FrameKind
from tidegate.model.ids import OperationId
from tidegate.web.problem import Refusal


class LongPollWaiter:
    """One waiting request. Rings for an entry, a gap, the end, or when it must go."""

    def __init__(self) -> None:
        self.listener: SenderListener | None = None
        self.record: ConnectionRecord = NO_RECORD
        self.writable = True
        self.closed = False
        #: Why it was closed, when it was told.
        self.refusal: Refusal | None = None
        self._told: tuple[str, str] | None = None
        self._rung = asyncio.Event()

    def write(self, batch: Batch) -> None:
        """Entries, and gaps between them, are what the request waits for."""
        for frame in batch.frames:
            if isinstance(frame, ErrorFrame):
                self._told = (frame.code, frame.message)
            elif frame.kind is not FrameKind.CONTROL:
                self._rung.set()

    def close(self, code: CloseCode, reason: str = "") -> None:  # noqa: ARG002 - as the port has it
        """It need not wait any longer."""
        self.record.closed(code)
        if not self.closed and self._told is not None:
            self.refusal = Refusal(code, *self._told)
        self.leave()

    def ask_to_reconnect(self, after_ms: int) -> None:  # noqa: ARG002 - the next poll comes at once
        """The replica is going away: the request is answered with what there is."""
        self.close(DRAINING)

    @property
    def unsent_bytes(self) -> int:
        """None: the answer is made when it ends."""
        return 0

    def abort(self, code: CloseCode) -> None:
        """As `close`: it has nothing unsent."""
        self.close(code)

    def leave(self) -> None:
        """Nobody listens any more."""
        self.closed = True
        self.writable = False
        self._rung.set()
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.on_closed()

    async def wait(
        self,
        subscriptions: SubscriptionService,
        operation: OperationId,
        ask: Ask,
        receive: Receive,
        seconds: float,
    ) -> None:
        """Until it rings, the client has gone or the time is over.

        Raises:
            RedisUnavailable, StreamUnusable, Overloaded: the operation cannot be followed.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self.closed and not subscriptions.join(operation, self, ask):
                    await subscriptions.ready(operation)
                async with asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(self._client_gone(receive), name="poll-gone")
                    await self._rung.wait()
                    watching.cancel()
        except TimeoutError:
            pass
        finally:
            self.leave()

    async def _client_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.record.told(0, VIEWER_LEFT)
        self._rung.set()
