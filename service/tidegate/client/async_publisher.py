"""`AsyncPublisher`: a backend's side of the contract, for programs with an event loop.

    async with AsyncPublisher("redis://127.0.0.1:6379/0") as publisher:
        async with publisher.operation("42") as operation:
            await operation.progress(0.5, message="half way")

The same promises as `Publisher`: entries of one operation in the order of the calls, nothing tried
again blindly, progress throttled with its last update always sent. A task, started when first
needed and ended by `close`, sends held progress. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from tidegate.client.messages import message, request_of
from tidegate.client.publisher import PROGRESS_INTERVAL_S, RETRY_S, STRIPES, last_id
from tidegate.client.stopping import CancelLooks, OperationCancelled
from tidegate.client.target import redis_settings
from tidegate.client.throttle import Throttle
from tidegate.client.tracking import T, track_async
from tidegate.client.updates import (
    PROGRESS,
    STARTED,
    Describe,
    count_data,
    describe_kind,
    end_type,
    progress_data,
)
from tidegate.core.feeds import LISTED_TYPE, listed_data
from tidegate.core.writes import IdempotencyKey
from tidegate.model.errors import InvalidInput, RedisUnavailable, TidegateError, WriteUncertain
from tidegate.model.ids import OperationId, parse_operation_id
from tidegate.model.settings import DispatchSettings, RedisSettings
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender, Retention
from tidegate.redis.topology import Topology

log = logging.getLogger(__name__)


class AsyncPublisher:
    """Publishes operations. Close it, or use it in an `async with` block. Arguments as of
    `Publisher`.

    Raises:
        SettingsError: the address is invalid.
    """

    def __init__(
        self,
        redis: str | RedisSettings | None = None,
        *,
        cap: int = Retention().cap,
        ttl_s: int = Retention().ttl_s,
        progress_interval_s: float = PROGRESS_INTERVAL_S,
    ) -> None:
        settings = redis_settings(redis)
        self._topology = Topology(parse_address(settings), settings)
        self._appender = Appender(
            self._topology, settings, DispatchSettings(), Retention(cap, ttl_s)
        )
        self._interval_s = progress_interval_s
        self._throttle = Throttle(progress_interval_s)
        self._stripes = [asyncio.Lock() for _ in range(STRIPES)]
        self._something = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    # -- entries ----------------------------------------------------------------------------------

    async def publish(
        self,
        operation: str,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """As `Publisher.publish`."""
        text = message(type, data or {})
        parsed = parse_operation_id(operation)
        once = None
        if idempotency_key is not None:
            once = IdempotencyKey(idempotency_key, request_of(type, data or {}))
        return await self._append(parsed, text, once)

    async def progress(self, operation: str, fraction: float | None = None, **data: Any) -> None:
        """As `Publisher.progress`."""
        await self._offer(parse_operation_id(operation), progress_data(fraction, data))

    async def count(self, operation: str, current: float, **data: Any) -> None:
        """As `Publisher.count`."""
        await self._offer(parse_operation_id(operation), count_data(current, data))

    async def _offer(self, parsed: OperationId, data: Mapping[str, Any]) -> None:
        text = message(PROGRESS, data)
        async with self._order(parsed):
            self._check_open()
            if self._throttle.offer(parsed, text, self._now()):
                await self._try(parsed, text)
            else:
                self._wake()

    async def start(
        self, operation: str, *, feed: str | None = None, title: str = "", **data: Any
    ) -> str:
        """As `Publisher.start`."""
        parsed = None if feed is None else parse_operation_id(feed)
        shown = {"title": title} if title else {}
        started = await self.publish(operation, STARTED, {"status": "running", **shown, **data})
        if parsed is not None:
            listed = listed_data(parse_operation_id(operation), title)
            await self._append(parsed, message(LISTED_TYPE, listed), lists=True)
        return started

    async def completed(self, operation: str, **data: Any) -> str:
        """As `Publisher.completed`."""
        return await self.end(operation, "completed", data)

    async def failed(self, operation: str, error: str = "", **data: Any) -> str:
        """As `Publisher.failed`."""
        return await self.end(operation, "failed", {"error": error, **data} if error else data)

    async def cancelled(self, operation: str, **data: Any) -> str:
        """As `Publisher.cancelled`."""
        return await self.end(operation, "cancelled", data)

    async def end(self, operation: str, status: str, data: Mapping[str, Any]) -> str:
        """As `Publisher.end`."""
        parsed = parse_operation_id(operation)
        text = message(end_type(status), {"status": status, **data})
        ended = await self._append(parsed, text, ends=True)
        self._throttle.forget(parsed)
        return ended

    @asynccontextmanager
    async def operation(
        self,
        operation: str,
        *,
        feed: str | None = None,
        describe: Describe = describe_kind,
        **data: Any,
    ) -> AsyncIterator[AsyncOperation]:
        """As `Publisher.operation`; a cancelled task ends the operation as cancelled."""
        await self.start(operation, feed=feed, **data)
        running = AsyncOperation(self, operation)
        try:
            yield running
        except OperationCancelled as error:
            await running.end_on(error, "cancelled", {})
            raise
        except Exception as error:
            await running.end_on(error, "failed", {"error": describe(error)})
            raise
        except BaseException as error:
            await running.end_on(error, "cancelled", {})
            raise
        if not running.ended:
            await running.completed()

    async def cancel_requested(self, operation: str) -> bool:
        """As `Publisher.cancel_requested`."""
        return await self._appender.cancel_requested(parse_operation_id(operation))

    async def flush(self) -> None:
        """As `Publisher.flush`."""
        for operation in self._throttle.held():
            async with self._order(operation):
                text = self._throttle.take(operation)
                if text is not None:
                    await self._send(operation, text)

    async def close(self) -> None:
        """As `Publisher.close`."""
        if self._closed:
            return
        self._closed = True
        self._something.set()
        try:
            if self._sending is not None:
                await self._sending
            await self.flush()
        finally:
            await self._appender.close()
            await self._topology.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- inside -----------------------------------------------------------------------------------

    def _order(self, operation: OperationId) -> asyncio.Lock:
        return self._stripes[hash(operation) % STRIPES]

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput("publisher", "is closed")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _append(
        self,
        operation: OperationId,
        text: bytes,
        once: IdempotencyKey | None = None,
        *,
        ends: bool = False,
        lists: bool = False,
    ) -> str:
        async with self._order(operation):
            self._check_open()
            held = self._throttle.take(operation)
            if held is not None and once is not None:
                await self._try(operation, held)  # apart, so that a repeated call is the same call
                held = None
            texts: Sequence[bytes] = [text] if held is None else [held, text]
            try:
                done = await self._appender.append(
                    operation, texts, once=once, ends=ends, lists=lists
                )
                return last_id(done)
            except TidegateError as error:
                if held is not None and not isinstance(error, WriteUncertain):
                    self._put_back(operation, held)
                raise

    async def _send(self, operation: OperationId, text: bytes) -> None:
        try:
            await self._appender.append(operation, [text])
        except WriteUncertain:
            raise
        except RedisUnavailable:
            self._put_back(operation, text)
            raise

    async def _try(self, operation: OperationId, text: bytes) -> None:
        try:
            await self._send(operation, text)
        except TidegateError as error:
            log.warning("progress of operation %s: %s", operation, error)

    def _put_back(self, operation: OperationId, text: bytes) -> None:
        again_at = self._now() + max(RETRY_S, self._interval_s)
        self._throttle.put_back(operation, text, again_at)
        self._wake()

    def _wake(self) -> None:
        if self._sending is None and not self._closed:
            self._sending = asyncio.create_task(self._send_held(), name="tidegate progress")
        self._something.set()

    async def _send_held(self) -> None:
        while not self._closed:
            self._something.clear()
            due_at = self._throttle.next_due()
            try:
                async with asyncio.timeout_at(due_at):
                    await self._something.wait()
            except TimeoutError:
                pass
            for operation in self._throttle.due(self._now()):
                async with self._order(operation):
                    # Taken only now: what was sent in between has taken it along.
                    text = self._throttle.take_due(operation, self._now())
                    if text is not None:
                        await self._try(operation, text)


class AsyncOperation:
    """An operation of a publisher, created by `AsyncPublisher.operation`."""

    def __init__(self, publisher: AsyncPublisher, operation: str) -> None:
        self._publisher = publisher
        self.id = operation
        self._looks = CancelLooks(operation)
        #: The status with which it has ended; empty while it runs.
        self.ended = ""

    async def publish(
        self,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """As `Publisher.publish`."""
        return await self._publisher.publish(self.id, type, data, idempotency_key=idempotency_key)

    async def progress(self, fraction: float | None = None, **data: Any) -> None:
        """As `Publisher.progress`."""
        await self._publisher.progress(self.id, fraction, **data)

    def track(
        self, items: Iterable[T] | AsyncIterable[T], total: int | None = None, **data: Any
    ) -> AsyncIterator[T]:
        """As `Operation.track`, for an `async for`; the items may be an iterable or an async
        iterable.
        """
        return track_async(
            items,
            total,
            lambda figures: self.progress(**figures, **data),
            lambda current: self._publisher.count(self.id, current, **data),
        )

    async def completed(self, **data: Any) -> str:
        """End the operation before the block does."""
        return await self._end("completed", data)

    async def failed(self, error: str = "", **data: Any) -> str:
        """End the operation before the block does."""
        return await self._end("failed", {"error": error, **data} if error else data)

    async def cancelled(self, **data: Any) -> str:
        """End the operation before the block does."""
        return await self._end("cancelled", data)

    async def cancel_requested(self) -> bool:
        """As `Operation.cancel_requested`."""
        looks = self._looks
        if looks.is_due(asyncio.get_running_loop().time()):
            try:
                looks.found = await self._publisher.cancel_requested(self.id)
            except TidegateError as error:
                looks.failed(error)
        return looks.found

    async def raise_if_cancelled(self) -> None:
        """As `Operation.raise_if_cancelled`."""
        if await self.cancel_requested():
            raise OperationCancelled(self.id)

    async def _end(self, status: str, data: Mapping[str, Any]) -> str:
        ended = await self._publisher.end(self.id, status, data)
        self.ended = status
        return ended

    async def end_on(self, error: BaseException, status: str, data: Mapping[str, Any]) -> None:
        """End it without hiding the error that ended it."""
        if not self.ended:
            try:
                await self._end(status, data)
            except TidegateError as unsent:
                error.add_note(
                    f"viewers were not notified that operation {self.id} {status}: {unsent}"
                )
