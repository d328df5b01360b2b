"""Limits the log lines of one kind per second, so that a client that causes a library to log every
request cannot fill a disk.

A kind is a logger and its message without values. Lines above the limit are counted, and the next
line of that kind says how many were omitted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from tidegate.core.token_bucket import TokenBucket

PER_S = 10.0
BURST = 50
#: Kinds told apart; what comes later shares one bound.
KINDS_MAX = 256
_OTHERS = ("", "")


class Quota(logging.Filter):
    """For a handler. `exempt` are loggers that have bounds of their own."""

    def __init__(
        self, exempt: Collection[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._exempt = frozenset(exempt)
        self._clock = clock
        self._kinds: dict[tuple[str, str], TokenBucket] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        if record.name in self._exempt:
            return True
        kind = (record.name, str(_event(record))[:200])
        bucket = self._kinds.get(kind)
        if bucket is None:
            if len(self._kinds) >= KINDS_MAX:
                kind = _OTHERS
            bucket = self._kinds.setdefault(kind, TokenBucket(PER_S, BURST))
        if not bucket.take(self._clock()):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return False
        left_out = self._left_out.pop(kind, 0)
        if left_out:
            _say(record, left_out)
        return True


def _event(record: logging.LogRecord) -> object:
    """structlog hands its event over as a dictionary."""
    return record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg


def _say(record: logging.LogRecord, left_out: int) -> None:
    if isinstance(record.msg, dict):
        record.msg["suppressed"] = left_out
    else:
        record.msg = f"{record.getMessage()} ({left_out} more like it were left out)"
        record.args = None
