"""One operation of a reporter: what a `with` block has, and what adapters keep for each task."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from tidegate.client.stopping import OperationCancelled
from tidegate.client.tracking import Figures, T, track, track_async
from tidegate.client.updates import progress_data
from tidegate.integrations.backlog import TaskPart


class Reports(Protocol):
    """What an operation needs of `TaskReporter`."""

    def progress(self, operation: str, fraction: float | None = None, **data: Any) -> None:
        """See `TaskReporter`."""

    def count(self, operation: str, current: float, **data: Any) -> None:
        """See `TaskReporter`."""

    def publish(
        self,
        operation: str,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """See `TaskReporter`."""

    def completed(self, operation: str, **data: Any) -> None:
        """See `TaskReporter`."""

    def failed(self, operation: str, error: BaseException | str, **data: Any) -> None:
        """See `TaskReporter`."""

    def cancelled(self, operation: str, **data: Any) -> None:
        """See `TaskReporter`."""

    def cancel_requested(self, operation: str) -> bool:
        """See `TaskReporter`."""

    def redact(self, text: str) -> str:
        """See `TaskReporter`."""


class TaskOperation:
    """An operation, created by `TaskReporter.operation`. `ended`: the status with which it has
    ended.
    """

    def __init__(self, reporter: Reports, operation: str, *, part: TaskPart | None = None) -> None:
        self.reporter = reporter
        self.id = operation
        self._part = part
        self.ended = ""

    def progress(self, fraction: float | None = None, **data: Any) -> None:
        """Report progress: a fraction from 0 to 1, or `current=` and `total=`. Takes a few
        microseconds.
        """
        if self._part is None:
            self.reporter.progress(self.id, fraction, **data)
            return
        part = self._part._replace(fraction=progress_data(fraction, data)["progress"])
        self.reporter.progress(self.id, fraction, part=part, **data)

    def count(self, current: float, **data: Any) -> None:
        """Report how many items are done if their total is unknown. A part counts when it has
        ended.
        """
        if self._part is None:
            self.reporter.count(self.id, current, **data)

    def publish(
        self,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """As `TaskReporter.publish`."""
        return self.reporter.publish(self.id, type, data)

    def track(self, items: Iterable[T], total: int | None = None, **data: Any) -> Iterator[T]:
        """Iterate over items, and report progress after each; `data` is added to it. If neither
        `total` nor a length is known, viewers see a count.
        """
        return track(
            items,
            total,
            lambda figures: self.progress(**figures, **data),
            lambda current: self.count(current, **data),
        )

    def track_async(
        self, items: Iterable[T] | AsyncIterable[T], total: int | None = None, **data: Any
    ) -> AsyncIterator[T]:
        """As `track`, for an `async for`; the items may be an iterable or an async iterable."""

        async def progress(figures: Figures) -> None:
            self.progress(**figures, **data)

        async def count(current: int) -> None:
            self.count(current, **data)

        return track_async(items, total, progress, count)

    def cancel_requested(self) -> bool:
        """Whether a viewer has requested the cancellation; checked in the background once a
        second.
        """
        return self.reporter.cancel_requested(self.id)

    def raise_if_cancelled(self) -> None:
        """Raise OperationCancelled if a viewer has requested the cancellation."""
        if self.cancel_requested():
            raise OperationCancelled(self.id)

    def end(self, status: str, error: BaseException | str = "", **data: Any) -> None:
        """End the operation unless it has ended: `completed`, `failed` (with the error) or
        `cancelled`.
        """
        if self.ended:
            return
        self.ended = status
        if status == "failed":
            self.reporter.failed(self.id, error, **data)
        elif status == "cancelled":
            self.reporter.cancelled(self.id, **data)
        elif self._part is None:
            self.reporter.completed(self.id, **data)
        else:
            self.reporter.completed(self.id, part=self._part, **data)
