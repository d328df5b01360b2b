"""Lines of one kind are bounded, and what was left out is said."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import Any

import pytest

from tidegate.model.settings import LogSettings
from tidegate.telemetry.log_quota import BURST, KINDS_MAX, PER_S, Quota
from tidegate.telemetry.logs import configure_logs


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Sink:
    """A logger behind a quota whose clock we set."""

    def __init__(self, exempt: tuple[str, ...] = ()) -> None:
        self.clock = Clock()
        self.quota = Quota(exempt, self.clock)
        self.written: list[Any] = []

    def log(self, message: object, *args: object, name: str = "uvicorn.error") -> bool:
        record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, None)
        if not self.quota.filter(record):
            return False
        self.written.append(record.msg if isinstance(record.msg, dict) else record.getMessage())
        return True


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_a_flood_is_counted_and_the_next_line_says_so(sink: Sink) -> None:
    for number in range(10_000):
        sink.log("Invalid HTTP request %d received.", number)
    assert sink.written == [f"Invalid HTTP request {n} received." for n in range(BURST)]
    sink.clock.now += 1 / PER_S
    assert sink.log("Invalid HTTP request %d received.", 7)
    left_out = 10_000 - BURST
    assert sink.written[-1] == (
        f"Invalid HTTP request 7 received. ({left_out} more like it were left out)"
    )
    sink.clock.now += 1 / PER_S
    assert sink.log("Invalid HTTP request %d received.", 8)
    assert sink.written[-1] == "Invalid HTTP request 8 received."


def test_an_event_of_structlog_has_the_count_as_a_value(sink: Sink) -> None:
    for number in range(BURST + 3):
        sink.log({"event": "background task failed", "number": number})
    sink.clock.now += 60
    sink.log({"event": "background task failed"})
    assert sink.written[-1] == {"event": "background task failed", "suppressed": 3}


def test_kinds_do_not_take_from_each_other(sink: Sink) -> None:
    for _ in range(BURST + 1):
        sink.log("flood")
    assert not sink.log("flood")
    assert sink.log("another")
    assert sink.log("flood", name="redis")
    assert sink.log({"event": "flood"}, name="tidegate")


def test_in_the_long_run_so_many_a_second(sink: Sink) -> None:
    for _ in range(BURST):
        sink.log("flood")
    written = 0
    for _ in range(10_000):  # 100 seconds
        sink.clock.now += 0.01
        written += sink.log("flood")
    assert abs(written - 100 * PER_S) <= 2


def test_invented_kinds_share_one_bound(sink: Sink) -> None:
    """Else each message with a value in its text would be a kind, and memory would grow."""
    written = sum(sink.log(f"user {number} said no") for number in range(100_000))
    assert written == KINDS_MAX + BURST
    assert len(sink.quota._kinds) <= KINDS_MAX + 1
    assert len(sink.quota._left_out) <= KINDS_MAX + 1


def test_who_has_bounds_of_its_own() -> None:
    sink = Sink(("tidegate.telemetry.connections",))
    for _ in range(1_000):
        assert sink.log({"event": "connection ended"}, name="tidegate.telemetry.connections")


@pytest.mark.usefixtures("logging_as_before")
def test_it_stands_before_the_stream() -> None:
    stream = io.StringIO()
    configure_logs(LogSettings(format="json"), stream)
    began = time.monotonic()
    for number in range(1_000):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request %d", number)
    took_s = time.monotonic() - began
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert BURST <= len(lines) <= BURST + PER_S * took_s + 1
    assert lines[0]["event"] == "Invalid HTTP request 0"
