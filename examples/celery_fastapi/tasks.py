"""The worker: imports the rows of an upload, and reports how far it is."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

from tidegate.integrations.celery import ProgressTask, report_tasks

REDIS = os.environ["TIDEGATE_REDIS__URL"]
app = Celery("example", broker=REDIS, backend=REDIS)
report_tasks(app)


@app.task(bind=True, base=ProgressTask)
def import_rows(self: Any, rows: list[str], seconds_per_row: float) -> int:
    """Import each row, which takes a while, unless the user cancels it."""
    for _ in self.track(rows, message="Importing"):
        self.raise_if_cancelled()
        time.sleep(seconds_per_row)
    return len(rows)
