"""Log records of a task as entries of type `log`, for those who watch it.

    logging.getLogger("myapp").addHandler(OperationHandler(op))

Which records viewers may read is the application's choice: the level and the logger. Texts go
through the reporter's `redact`, and are bounded in length and rate. Records of Tidegate itself are
left out, so that a report about a report cannot follow from it.
"""

from __future__ import annotations

import logging
from time import monotonic

from tidegate.integrations.reported import ReportedOperation
from tidegate.model.errors import TidegateError

LOG = "log"
#: Records a second; those above it are counted, and the count is published.
RATE_MAX = 100


class OperationHandler(logging.Handler):
    """Publishes each record as `{"line", "level", "logger"}`."""

    def __init__(
        self, op: ReportedOperation, level: int = logging.INFO, *, rate_max: int = RATE_MAX
    ) -> None:
        super().__init__(level)
        self._op = op
        self._rate_max = rate_max
        self._second = 0
        self._count = 0
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, as `logging` asks of a handler."""
        if record.name == "tidegate" or record.name.startswith("tidegate."):
            return
        try:
            if self._is_over(monotonic()):
                return
            line = self._op.reporter.redact(self.format(record))
            data: dict[str, str | int] = {
                "line": line,
                "level": record.levelname.lower(),
                "logger": record.name,
            }
            if self._left_out:
                data["left_out"] = self._left_out
                self._left_out = 0
            self._op.publish(LOG, data)
        except TidegateError:
            self.handleError(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit the format, for one
            self.handleError(record)

    def _is_over(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        if self._count <= self._rate_max:
            return False
        self._left_out += 1
        return True
