"""`Publisher`: a backend's side of the contract, for programs without an event loop.

    publisher = Publisher("redis://127.0.0.1:6379/0")
    with publisher.operation("42") as operation:     # ends as completed, failed or cancelled
        operation.progress(0.5, message="half way")

Entries of one operation are in the stream in the order of the calls, from however many threads.
`publish` and the ends raise when Redis does not have the entry, and never try again by themselves.
`progress` never raises for Redis: an update that was surely not written is held and tried again
until a newer one takes its place, one that may have been written is let go.

A daemon thread, started when first needed, sends held progress. A fork starts without the parent's
held updates, so a publisher may be made before a pre-forking server forks.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from tidegate.client.messages import message, request_of
from tidegate.client.stopping import CancelLooks, OperationCancelled
from tidegate.client.target import redis_settings
from tidegate.client.throttle import Throttle
from tidegate.client.tracking import T, track
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
from tidegate.core.writes import Appended, IdempotencyKey, Outcome
from tidegate.model.errors import InvalidInput, RedisUnavailable, TidegateError, WriteUncertain
from tidegate.model.ids import OperationId, parse_operation_id
from tidegate.model.settings import DispatchSettings, RedisSettings
from tidegate.redis.appending import Retention, SyncAppender

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.2
RETRY_S = 1.0
#: Locks that keep the entries of one operation in order; operations share them by hash.
STRIPES = 64

_open: weakref.WeakSet[Publisher] = weakref.WeakSet()


class Publisher:
    """Publishes operations. It may be used from several threads. Close it, or use it in a `with`
    block.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`),
            or settings. None: the variable TIDEGATE_REDIS__URL.
        cap: approximate number of entries kept in a stream; 0 keeps all.
        ttl_s: time to live of a stream after its last entry, in seconds; 0 means no expiry.
        progress_interval_s: minimum time between two progress entries of an operation, in seconds.

    Raises:
        SettingsError: the address is invalid.
        RedisUnavailable: no node of a cluster responds.
    """

    def __init__(
        self,
        redis: str | RedisSettings | None = None,
        *,
        cap: int = Retention().cap,
        ttl_s: int = Retention().ttl_s,
        progress_interval_s: float = PROGRESS_INTERVAL_S,
    ) -> None:
        self._appender = SyncAppender(
            redis_settings(redis), DispatchSettings(), Retention(cap, ttl_s)
        )
        self._interval_s = progress_interval_s
        self._closed = False
        self.forked()
        _open.add(self)

    # -- entries ----------------------------------------------------------------------------------

    def publish(
        self,
        operation: str,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """Append an entry, and return its id. With an idempotency key, repeating the call within a
        day appends nothing and returns the id of the first entry.

        Raises:
            RedisUnavailable: the entry was not written. Its subclass WriteUncertain: it may have
                been.
            InvalidInput: the id, the type, the data or the key is invalid.
            StreamUnusable: the key does not hold a stream.
        """
        text = message(type, data or {})
        parsed = parse_operation_id(operation)
        once = None
        if idempotency_key is not None:
            once = IdempotencyKey(idempotency_key, request_of(type, data or {}))
        return self._append(parsed, text, once)

    def progress(self, operation: str, fraction: float | None = None, **data: Any) -> None:
        """Report progress: a fraction from 0 to 1, or `current=` and `total=`. The rate is limited.

        Of several updates within `progress_interval_s` only the latest is sent, and it always is.

        Raises:
            InvalidInput: the id or the data is invalid. Errors of Redis are not raised.
        """
        self._offer(parse_operation_id(operation), progress_data(fraction, data))

    def count(self, operation: str, current: float, **data: Any) -> None:
        """Report how many items are done if their total is unknown; sent like progress."""
        self._offer(parse_operation_id(operation), count_data(current, data))

    def _offer(self, parsed: OperationId, data: Mapping[str, Any]) -> None:
        text = message(PROGRESS, data)
        with self._order(parsed):
            with self._mutex:
                self._check_open()
                now = self._throttle.offer(parsed, text, time.monotonic())
            if now:
                self._try(parsed, text)
            else:
                self._wake()

    def start(
        self, operation: str, *, feed: str | None = None, title: str = "", **data: Any
    ) -> str:
        """Publish that the operation has started, and return the id of that entry. `feed`: the feed
        in which to list it, such as `user:42`, so that viewers of the feed see it.

        Raises:
            RedisUnavailable: it may have started without being listed. Calling it again lists it
                once more, which has no effect if it was listed.
            InvalidInput, StreamUnusable: as in `publish`.
        """
        parsed = None if feed is None else parse_operation_id(feed)
        shown = {"title": title} if title else {}
        started = self.publish(operation, STARTED, {"status": "running", **shown, **data})
        if parsed is not None:
            listed = listed_data(parse_operation_id(operation), title)
            self._append(parsed, message(LISTED_TYPE, listed), lists=True)
        return started

    def completed(self, operation: str, **data: Any) -> str:
        """Publish that the operation has completed, with this `data`. Raises as `publish`."""
        return self.end(operation, "completed", data)

    def failed(self, operation: str, error: str = "", **data: Any) -> str:
        """Publish that the operation has failed; viewers see `error`. Raises as `publish`."""
        return self.end(operation, "failed", {"error": error, **data} if error else data)

    def cancelled(self, operation: str, **data: Any) -> str:
        """Publish that the operation was cancelled. Raises as `publish`."""
        return self.end(operation, "cancelled", data)

    @contextmanager
    def operation(
        self,
        operation: str,
        *,
        feed: str | None = None,
        describe: Describe = describe_kind,
        **data: Any,
    ) -> Iterator[Operation]:
        """Publish the start of an operation and its end: completed; cancelled by
        OperationCancelled, KeyboardInterrupt, SystemExit or GeneratorExit; failed by any other
        exception. Exceptions are not suppressed.

        Args:
            feed: the feed in which to list it.
            describe: returns the text that viewers see for an exception; `str` shows all of it.
            data: data of the first entry.
        """
        self.start(operation, feed=feed, **data)
        running = Operation(self, operation)
        try:
            yield running
        except OperationCancelled as error:
            running.end_on(error, "cancelled", {})
            raise
        except Exception as error:
            running.end_on(error, "failed", {"error": describe(error)})
            raise
        except BaseException as error:
            running.end_on(error, "cancelled", {})
            raise
        if not running.ended:
            running.completed()

    def cancel_requested(self, operation: str) -> bool:
        """Whether a viewer has requested the cancellation, by a read from Redis.
        `Operation.cancel_requested` limits the rate of these reads.

        Raises:
            RedisUnavailable: that is unknown at the moment.
            InvalidInput: the id is invalid.
            StreamUnusable: the key does not hold a stream.
        """
        return self._appender.cancel_requested(parse_operation_id(operation))

    def flush(self) -> None:
        """Send all held progress. Raises as `publish`; what was not written remains held."""
        with self._mutex:
            operations = self._throttle.held()
        for operation in operations:
            with self._order(operation):
                with self._mutex:
                    text = self._throttle.take(operation)
                if text is not None:
                    self._send(operation, text)

    def close(self) -> None:
        """Send held progress, then close; may be called repeatedly. Raises as `publish`, but
        closes.
        """
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._something.notify_all()
        _open.discard(self)
        try:
            self.flush()
        finally:
            self._appender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------

    def forked(self) -> None:
        """As new: in a fork the locks may be held by threads that are not there."""
        self._mutex = threading.Lock()
        self._something = threading.Condition(self._mutex)
        self._stripes = [threading.Lock() for _ in range(STRIPES)]
        self._throttle = Throttle(self._interval_s)
        self._thread: threading.Thread | None = None

    def _order(self, operation: OperationId) -> threading.Lock:
        return self._stripes[hash(operation) % STRIPES]

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput("publisher", "is closed")

    def end(self, operation: str, status: str, data: Mapping[str, Any]) -> str:
        """The last entry of an operation: a status of the gateway's list. Raises as `publish`."""
        parsed = parse_operation_id(operation)
        text = message(end_type(status), {"status": status, **data})
        ended = self._append(parsed, text, ends=True)
        with self._mutex:
            self._throttle.forget(parsed)
        return ended

    def _append(
        self,
        operation: OperationId,
        text: bytes,
        once: IdempotencyKey | None = None,
        *,
        ends: bool = False,
        lists: bool = False,
    ) -> str:
        with self._order(operation):
            with self._mutex:
                self._check_open()
                held = self._throttle.take(operation)
            if held is not None and once is not None:
                self._try(operation, held)  # apart, so that a repeated call is the same call
                held = None
            texts: Sequence[bytes] = [text] if held is None else [held, text]
            try:
                done = self._appender.append(operation, texts, once=once, ends=ends, lists=lists)
            except TidegateError as error:
                if held is not None and not isinstance(error, WriteUncertain):
                    self._put_back(operation, held)
                raise
            return last_id(done)

    def _send(self, operation: OperationId, text: bytes) -> None:
        try:
            self._appender.append(operation, [text])
        except WriteUncertain:
            raise
        except RedisUnavailable:
            self._put_back(operation, text)
            raise

    def _try(self, operation: OperationId, text: bytes) -> None:
        try:
            self._send(operation, text)
        except TidegateError as error:
            log.warning("progress of operation %s: %s", operation, error)

    def _put_back(self, operation: OperationId, text: bytes) -> None:
        with self._mutex:
            again_at = time.monotonic() + max(RETRY_S, self._interval_s)
            self._throttle.put_back(operation, text, again_at)
        self._wake()

    def _wake(self) -> None:
        with self._mutex:
            if self._thread is None and not self._closed:
                # The thread must not keep a forgotten publisher alive.
                self._thread = threading.Thread(
                    target=_send_held, args=(weakref.ref(self),), name="tidegate", daemon=True
                )
                self._thread.start()
            self._something.notify_all()

    def send_held(self) -> bool:
        """One round of the publisher's own thread; False: it is to end."""
        with self._mutex:
            if self._closed:
                return False
            due_at = self._throttle.next_due()
            if due_at is None:
                self._thread = None
                return False
            now = time.monotonic()
            if due_at > now:
                self._something.wait(due_at - now)
                return not self._closed
            operations = self._throttle.due(now)
        for operation in operations:
            with self._order(operation):
                # Taken only now: what was sent in between has taken it along.
                with self._mutex:
                    text = self._throttle.take_due(operation, time.monotonic())
                if text is not None:
                    self._try(operation, text)
        return True


class Operation:
    """An operation of a publisher, created by `Publisher.operation`."""

    def __init__(self, publisher: Publisher, operation: str) -> None:
        self._publisher = publisher
        self.id = operation
        self._looks = CancelLooks(operation)
        #: The status with which it has ended; empty while it runs.
        self.ended = ""

    def publish(
        self,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """As `Publisher.publish`."""
        return self._publisher.publish(self.id, type, data, idempotency_key=idempotency_key)

    def progress(self, fraction: float | None = None, **data: Any) -> None:
        """As `Publisher.progress`."""
        self._publisher.progress(self.id, fraction, **data)

    def track(self, items: Iterable[T], total: int | None = None, **data: Any) -> Iterator[T]:
        """Iterate over items, and report progress after each; `data` is added to it. If neither
        `total` nor a length is known, viewers see a count.
        """
        return track(
            items,
            total,
            lambda figures: self.progress(**figures, **data),
            lambda current: self._publisher.count(self.id, current, **data),
        )

    def completed(self, **data: Any) -> str:
        """End the operation before the block does."""
        return self._end("completed", data)

    def failed(self, error: str = "", **data: Any) -> str:
        """End the operation before the block does."""
        return self._end("failed", {"error": error, **data} if error else data)

    def cancelled(self, **data: Any) -> str:
        """End the operation before the block does."""
        return self._end("cancelled", data)

    def cancel_requested(self) -> bool:
        """Whether a viewer has requested the cancellation. It reads from Redis at most once a
        second, so it may be called in each iteration of a loop. Errors of Redis are not raised.
        """
        looks = self._looks
        if looks.is_due(time.monotonic()):
            try:
                looks.found = self._publisher.cancel_requested(self.id)
            except TidegateError as error:
                looks.failed(error)
        return looks.found

    def raise_if_cancelled(self) -> None:
        """Raise OperationCancelled if `cancel_requested`; the block then ends as cancelled."""
        if self.cancel_requested():
            raise OperationCancelled(self.id)

    def _end(self, status: str, data: Mapping[str, Any]) -> str:
        ended = self._publisher.end(self.id, status, data)
        self.ended = status
        return ended

    def end_on(self, error: BaseException, status: str, data: Mapping[str, Any]) -> None:
        """End it without hiding the error that ended it."""
        if not self.ended:
            try:
                self._end(status, data)
            except TidegateError as unsent:
                error.add_note(
                    f"viewers were not notified that operation {self.id} {status}: {unsent}"
                )


def last_id(done: Appended) -> str:
    """The id of the entry that the call was about.

    Raises:
        InvalidInput: the idempotency key was used for something else.
    """
    if done.outcome is Outcome.DIFFERS:
        raise InvalidInput("idempotency_key", "was used for another entry of this operation")
    return done.ids[-1]


def _send_held(publisher: weakref.ref[Publisher]) -> None:
    while True:
        alive = publisher()
        if alive is None or not alive.send_held():
            return
        del alive


@atexit.register
def _close_all() -> None:
    for publisher in tuple(_open):
        try:
            publisher.close()
        except TidegateError as error:
            log.warning("held progress is lost: %s", error)


def _after_fork() -> None:
    for publisher in tuple(_open):
        publisher.forked()


os.register_at_fork(after_in_child=_after_fork)
