"""Logging through structlog: readable on a terminal, JSON lines elsewhere. Loggers of libraries and
warnings of Python are handled in the same way.

Every line has `timestamp`, `level`, `logger` and `event`; its values pass `log_values.clean`, and
the number of lines of one kind per second is limited (`log_quota`).
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from tidegate.model.settings import LogSettings
from tidegate.telemetry.log_quota import Quota
from tidegate.telemetry.log_values import clean, one_line

#: Libraries that say at INFO or below what is ours to say, or that would write headers: uvicorn
#: tells each connection, httpx each request, websockets (through uvicorn) each frame.
QUIET = ("uvicorn", "httpx", "httpcore", "websockets", "urllib3")
#: `connections_per_s` of the settings is theirs.
OWN_BOUNDS = ("tidegate.telemetry.connections", "tidegate.web.access.cancels")
#: Each failed try of the exporter; `span_queue` says once that it fails.
SILENT = ("opentelemetry.exporter", "opentelemetry.sdk")


def configure_logs(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's root logger; call once, at the start."""
    stream = sys.stderr if stream is None else stream
    pretty = settings.format == "pretty" or (settings.format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.typing.Processor] = (
        [
            one_line,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
        if pretty
        else [structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(Quota(exempt=OWN_BOUNDS))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                clean,
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.captureWarnings(capture=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
