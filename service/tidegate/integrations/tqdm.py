"""tqdm with a second bar in the browser: a subclass, so all of its arguments work.

    from tidegate.integrations.tqdm import tqdm

    for row in tqdm(rows, operation="42", desc="Import"):
        ...

Without `operation` (or `op`, an operation that is running) it is plain tqdm. With `operation` the
bar starts the operation and ends it: completed when it is closed at its end, failed when the items
or a `with` block around the bar raise. A loop that is left early is cancelled, also by an exception
in its body: a bar learns of that only in a `with` block.
"""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm as _tqdm

from tidegate.client.tracking import figures
from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.shared import shared_reporter


class tqdm(_tqdm):  # noqa: N801 - tqdm's own name
    """As `tqdm.auto.tqdm`, and reports its progress.

    Args:
        operation: the id of an operation that this bar starts and ends.
        op: an operation that is started and ended elsewhere.
    """

    def __init__(
        self,
        *args: Any,
        operation: str | None = None,
        op: TaskOperation | None = None,
        **options: Any,
    ) -> None:
        self._op: TaskOperation | None = None
        self._owns = operation is not None
        super().__init__(*args, **options)
        if operation is not None:
            reporter = shared_reporter()
            self._op = TaskOperation(reporter, operation)
            title = options.get("desc")
            reporter.started(operation, **({"title": title} if title else {}))
        else:
            self._op = op
        self._report()

    def __iter__(self) -> Any:
        if self._op is None:
            yield from super().__iter__()
            return
        # tqdm's own loop counts only when it draws.
        error: BaseException | None = None
        try:
            for item in self.iterable:
                yield item
                self.update()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._close(error)

    def update(self, n: float = 1) -> Any:
        """As tqdm; a bar that is not drawn (`disable`) counts and reports as well."""
        shown = super().update(n)
        if self.disable:
            self.n += n
        self._report()
        return shown

    def reset(self, total: float | None = None) -> None:
        """As tqdm."""
        super().reset(total)
        if self.disable:
            self.n: float = 0
        self._report()

    def close(self) -> None:
        """As tqdm; ends the operation that this bar has started."""
        self._close(None)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        super().close()
        op: TaskOperation | None = getattr(self, "_op", None)  # __init__ may have failed
        if op is None or not self._owns:
            return
        self._report()
        if isinstance(error, Exception):
            op.end("failed", error)
        elif error is not None or (self.total is not None and self.n < self.total):
            op.end("cancelled")
        else:
            op.end("completed")

    def _report(self) -> None:
        op = getattr(self, "_op", None)
        if op is None or op.ended:
            return
        # A bar that is not drawn lacks what only drawing needs.
        message, unit = getattr(self, "desc", ""), getattr(self, "unit", "it")
        data = {
            **({"message": message} if message else {}),
            **({"unit": unit} if unit != "it" else {}),
        }
        if self.total:
            op.progress(**figures(self.n, self.total), **data)
        else:
            op.count(self.n, **data)
