"""Log records of a task as entries of type `log`, for those who watch it.

    logging.getLogger("myapp").addHandler(OperationHandler(op))

Which records viewers may read is the application's choice: the level and the logger. Texts go
through the reporter's `redact`, and are bounded in length and rate. Records of Tidegate itself are
left out, so that a report about a report cannot follow from it.
"""

from __future__ import annotations

import logging
from time import monotonic

from tidegate.integrations.line_rate import RATE_MAX, LineRate
from tidegate.integrations.reported import TaskOperation

LOG = "log"


class OperationHandler(logging.Handler):
    """Publishes each log record as `{"line", "level", "logger"}`."""

    def __init__(
        self, op: TaskOperation, level: int = logging.INFO, *, rate_max: int = RATE_MAX
    ) -> None:
        super().__init__(level)
        self._op = op
        self._rate = LineRate(rate_max)

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record. Never raises, as `logging` requires."""
        if record.name == "tidegate" or record.name.startswith("tidegate."):
            return
        try:
            if not self._rate.accept(monotonic()):
                return
            line = self._op.reporter.redact(self.format(record))
            data = {"line": line, "level": record.levelname.lower(), "logger": record.name}
            self._op.publish(LOG, data | self._rate.left_out())
        except Exception:  # noqa: BLE001 - arguments that do not fit the format, for one
            self.handleError(record)
