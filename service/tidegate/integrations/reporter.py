"""`TaskReporter`: a publisher for tasks, which never raises for Redis and never waits for it.

    reporter = TaskReporter("redis://127.0.0.1:6379/0")
    with reporter.operation("42", title="Import") as op:
        for row in op.track(rows):
            op.raise_if_cancelled()

Calls put what they have to say into a bounded buffer (`Backlog`); a daemon thread, started when
needed, sends it and tries again while Redis is away. So an end may be written seconds after the
call: `flush` waits, for a bounded time. Wrong arguments still raise `InvalidInput`.

An operation is started once for each run, and ended once: an end, or a retry, of an operation that
has ended is dropped, whoever ended it. Safe with threads, after a fork (the child begins with an
empty buffer), and under gevent.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidegate.client.messages import message
from tidegate.client.publisher import PROGRESS_INTERVAL_S
from tidegate.client.stopping import OperationCancelled
from tidegate.client.target import redis_settings
from tidegate.client.updates import (
    PROGRESS,
    STARTED,
    Describe,
    count_data,
    end_type,
    progress_data,
)
from tidegate.integrations.backlog import (
    MAX_BYTES,
    Backlog,
    ItemBatch,
    ItemKind,
    Lane,
    TaskPart,
    WaitingItem,
)
from tidegate.integrations.batch_writer import BatchWriter
from tidegate.integrations.cancelling import CancelWatch, OnCancel
from tidegate.integrations.describing import Redact, describe_text, redact_secrets, told
from tidegate.integrations.reported import TaskOperation
from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.model.ids import parse_operation_id
from tidegate.model.settings import RedisSettings
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Retention

log = logging.getLogger(__name__)

RETRYING = "operation_retrying"
LOST = "entries_lost"
RETRY_MIN_S = 0.5
RETRY_MAX_S = 5.0
#: The thread waits this long for more before it ends.
LINGER_S = 5.0
#: At the end of the process, and of a worker.
FLUSH_S = 2.0
WARN_EVERY_S = 60.0
#: Of a result that is published with the end; a larger one is left out.
RESULT_MAX_BYTES = 16_384

_open: weakref.WeakSet[TaskReporter] = weakref.WeakSet()


class TaskReporter:
    """Reports operations in the background.

    Args:
        redis, cap, ttl_s, progress_interval_s: as of `Publisher`.
        describe: returns the text that viewers see for an exception; by default its kind and text.
        redact: removes secrets from that text, from log lines and from output.
        buffer_bytes: maximum size of entries that wait for Redis. Further ones are dropped, and
            viewers see how many are missing.

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
        describe: Describe = describe_text,
        redact: Redact = redact_secrets,
        buffer_bytes: int = MAX_BYTES,
    ) -> None:
        settings = redis_settings(redis)
        parse_address(settings)
        self._writer = BatchWriter(settings, Retention(cap, ttl_s))
        self._interval_s = progress_interval_s
        self._buffer_bytes = buffer_bytes
        self._describe = describe
        self._redact = redact
        self.forked()
        _open.add(self)

    # -- reporting --------------------------------------------------------------------------------

    def started(self, operation: str, *, run: str | None = None, **data: Any) -> None:
        """Report the start. With `run`, the name of a run, repeating the call within a day has no
        effect.
        """
        text = message(STARTED, {"status": "running", **data})
        self._add(_lane(operation), WaitingItem(ItemKind.START, text, run or secrets.token_hex(8)))

    def progress(
        self,
        operation: str,
        fraction: float | None = None,
        *,
        part: TaskPart | None = None,
        **data: Any,
    ) -> None:
        """As `Publisher.progress`. With `part`, the progress of that part of the operation."""
        self._offer(_lane(operation, part), progress_data(fraction, data), part)

    def count(self, operation: str, current: float, **data: Any) -> None:
        """Report how many items are done if their total is unknown; sent like progress."""
        self._offer(_lane(operation), count_data(current, data), None)

    def publish(
        self,
        operation: str,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """Append an entry of any type; False if the buffer is full, which viewers see."""
        return self._add(_lane(operation), WaitingItem(ItemKind.ENTRY, message(type, data or {})))

    def completed(self, operation: str, *, part: TaskPart | None = None, **data: Any) -> None:
        """Report success. With `part`, that part has ended; the operation ends with its last
        part.
        """
        end = message(end_type("completed"), {"status": "completed", **_bounded(data)})
        if part is None:
            self._add(_lane(operation), WaitingItem(ItemKind.STEP, end))
        else:
            text = message(PROGRESS, {"progress": 1.0})
            done = part._replace(fraction=1.0, result=end)
            self._add(_lane(operation, part), WaitingItem(ItemKind.STEP, text, part=done))

    def failed(self, operation: str, error: BaseException | str, **data: Any) -> None:
        """Report failure. Viewers see the error as returned by `describe` and `redact`."""
        text = told(error, self._describe, self._redact)
        fields = {"status": "failed", **({"error": text} if text else {}), **data}
        self._add(_lane(operation), WaitingItem(ItemKind.STEP, message(end_type("failed"), fields)))

    def retrying(
        self, operation: str, error: BaseException | str = "", *, attempt: int = 0, **data: Any
    ) -> None:
        """Report that a run has failed and will be repeated, which does not end the operation. With
        `attempt`, the number of the failed run, it is ignored if the next run has already started.
        """
        text = told(error, self._describe, self._redact)
        number = {"attempt": attempt} if attempt else {}
        fields = {"status": "retrying", **({"reason": text} if text else {}), **number, **data}
        again = WaitingItem(
            ItemKind.STEP, message(RETRYING, fields), attempt=attempt + 1 if attempt else 0
        )
        self._add(_lane(operation), again)

    def cancelled(self, operation: str, **data: Any) -> None:
        """Report that the operation was cancelled."""
        fields = {"status": "cancelled", **data}
        self._add(
            _lane(operation), WaitingItem(ItemKind.STEP, message(end_type("cancelled"), fields))
        )

    @contextmanager
    def operation(self, operation: str, **data: Any) -> Iterator[TaskOperation]:
        """As `Publisher.operation`. `OperationCancelled` ends the operation as cancelled, and is
        re-raised.
        """
        running = TaskOperation(self, operation)
        self.started(operation, **data)
        try:
            yield running
        except OperationCancelled:
            running.end("cancelled")
            raise
        except Exception as error:
            running.end("failed", error)
            raise
        except BaseException:
            running.end("cancelled")
            raise
        finally:
            self.no_cancel(operation)
        running.end("completed")

    def redact(self, text: str) -> str:
        """Remove secrets from a text for viewers."""
        return told(text, self._describe, self._redact)

    # -- Stop -------------------------------------------------------------------------------------

    def cancel_requested(self, operation: str) -> bool:
        """Whether a viewer has requested the cancellation, as of the latest check. It is checked in
        the background once a second for as long as this is called.
        """
        with self._wake:
            asked, is_new = self._looks.ask(parse_operation_id(operation), time.monotonic())
            if is_new:
                self._notify()
        return asked

    def on_cancel(self, operation: str, call: OnCancel) -> None:
        """Call a function once, in the thread of the reporter, when the cancellation is
        requested.
        """
        with self._wake:
            self._looks.watch(parse_operation_id(operation), call, time.monotonic())
            self._notify()

    def no_cancel(self, operation: str) -> None:
        """Stop checking for a request to cancel."""
        with self._wake:
            self._looks.forget(parse_operation_id(operation))

    # -- sending ----------------------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """Number of entries dropped because the buffer was full."""
        return self._backlog.dropped

    def flush(self, timeout_s: float = FLUSH_S, operation: str | None = None) -> bool:
        """Wait until everything, or everything of this operation, is written; False if it is not in
        time.
        """
        one = None if operation is None else parse_operation_id(operation)
        until = time.monotonic() + timeout_s
        with self._wake:
            self._paused_until = 0.0  # tried now, however long Redis was away
            while self._backlog.is_waiting(one):
                self._backlog.hurry()
                self._notify()
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._written.wait(left)
        return True

    def close(self, timeout_s: float = FLUSH_S) -> bool:
        """Flush, and stop the thread; whether everything is written. A later report starts it
        again.
        """
        until = time.monotonic() + timeout_s
        done = self.flush(timeout_s)
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))
            if not thread.is_alive():
                self._writer.close()
        return done

    # -- inside -----------------------------------------------------------------------------------

    def forked(self) -> None:
        """As new: a child must not send what its parent will, nor on its connections."""
        lock = threading.RLock()  # a signal handler may report, too
        self._wake = threading.Condition(lock)
        self._written = threading.Condition(lock)
        self._backlog = Backlog(self._interval_s, _lost, max_bytes=self._buffer_bytes)
        self._looks = CancelWatch()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._paused_until = 0.0
        self._pause_s = RETRY_MIN_S
        self._warned_at = -WARN_EVERY_S
        self._writer.forget()

    def _offer(self, lane: Lane, data: Mapping[str, Any], part: TaskPart | None) -> None:
        item = WaitingItem(ItemKind.PROGRESS, message(PROGRESS, data), part=part)
        with self._wake:
            if self._backlog.progress(lane, item, time.monotonic()):
                self._notify()

    def _add(self, lane: Lane, item: WaitingItem) -> bool:
        with self._wake:
            taken = self._backlog.add(lane, item, time.monotonic())
            self._notify()
        return taken

    def _notify(self) -> None:
        if self._thread is None:
            self._closing = False
            # The thread must not keep a forgotten reporter alive for long.
            self._thread = threading.Thread(
                target=_send, args=(weakref.ref(self),), name="tidegate reporter", daemon=True
            )
            self._thread.start()
        else:
            self._wake.notify()

    def step(self) -> bool:
        """One turn of the reporter's own thread; False: it is to end."""
        with self._wake:
            batch, look = self._next(time.monotonic())
            if batch is None and look is None:
                due_s = self._due_s(time.monotonic())
                if due_s is None or due_s > 0:
                    woken = not self._closing and self._wake.wait(
                        LINGER_S if due_s is None else due_s
                    )
                    if self._closing or (due_s is None and not woken):
                        self._thread = None
                        return False
                return True
        if batch is not None:
            self._send_batch(batch)
        elif look is not None:
            self._look(look)
        return True

    def _next(self, now: float) -> tuple[ItemBatch | None, Any]:
        if now < self._paused_until:
            return None, None
        batch = self._backlog.take(now)
        return batch, None if batch is not None else self._looks.due(now)

    def _due_s(self, now: float) -> float | None:
        """How long there is nothing to do; None: nothing is expected."""
        times = [at for at in (self._backlog.next_due(), self._looks.next_due()) if at is not None]
        if not times:
            return None
        return max(0.0, max(min(times), self._paused_until) - now)

    def _send_batch(self, batch: ItemBatch) -> None:
        written = True
        try:
            self._writer.send(batch)
        except RedisUnavailable as error:
            written = False
            self._pause(error)
        except TidegateError as error:
            log.warning("operation %s: not reported: %s", batch.lane.operation, error)
        except Exception:
            log.exception("operation %s: not reported", batch.lane.operation)
        with self._wake:
            if written:
                self._pause_s = RETRY_MIN_S
                self._backlog.sent(batch, time.monotonic())
            else:
                self._backlog.put_back(batch)
            self._written.notify_all()

    def _look(self, operation: Any) -> None:
        asked = False
        try:
            asked = self._writer.cancel_requested(operation)
        except RedisUnavailable as error:
            self._pause(error)
        except TidegateError as error:
            log.warning("operation %s: cannot look whether to cancel: %s", operation, error)
        with self._wake:
            calls = self._looks.looked(operation, asked, time.monotonic())
        for call in calls:
            try:
                call()
            except Exception:
                log.exception("operation %s: the function for its cancellation failed", operation)

    def _pause(self, error: RedisUnavailable) -> None:
        now = time.monotonic()
        self._paused_until = now + self._pause_s
        self._pause_s = min(RETRY_MAX_S, 2 * self._pause_s)
        if now >= self._warned_at + WARN_EVERY_S:
            self._warned_at = now
            log.warning("progress waits for Redis: %s", error.detail)


def _lane(operation: str, part: TaskPart | None = None) -> Lane:
    return Lane(parse_operation_id(operation), "" if part is None else part.name)


def _lost(count: int) -> bytes:
    return message(LOST, {"count": count})


def _bounded(data: dict[str, Any]) -> dict[str, Any]:
    """Without a result that is too large or has no JSON form: it must not cost the end."""
    if "result" not in data:
        return data
    try:
        fits = len(message("result", {"result": data["result"]})) <= RESULT_MAX_BYTES
    except TidegateError:
        fits = False
    return data if fits else {name: value for name, value in data.items() if name != "result"}


def _send(reporter: weakref.ref[TaskReporter]) -> None:
    while True:
        alive = reporter()
        if alive is None or not alive.step():
            return
        del alive


@atexit.register
def _close_all() -> None:
    for reporter in tuple(_open):
        if not reporter.close():
            log.warning("some progress is lost: Redis did not take it in time")


def _after_fork() -> None:
    for reporter in tuple(_open):
        reporter.forked()


os.register_at_fork(after_in_child=_after_fork)
