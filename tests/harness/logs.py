"""The logging of the test run, put back after somebody has set up that of a process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import structlog

from tidegate.telemetry.logs import QUIET, SILENT


@contextlib.contextmanager
def logging_as_before() -> Iterator[None]:
    """Whatever is set up meanwhile. Loggers keep what they were first used with, so without this
    later tests of the same process could not capture logs any more.
    """
    names = (None, *QUIET, *SILENT)
    root = logging.getLogger()
    handlers, levels = root.handlers[:], [logging.getLogger(name).level for name in names]
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    structlog.configure = uncached  # type: ignore[assignment]
    try:
        yield
    finally:
        structlog.configure = configure
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        for name, level in zip(names, levels, strict=True):
            logging.getLogger(name).setLevel(level)
