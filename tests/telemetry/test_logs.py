"""The lines of a log: one each, whoever wrote them, without secrets and without an end of their own
making.
"""

from __future__ import annotations

import io
import json
import logging
import time
import warnings
from typing import Any

import pytest
import structlog

from tidegate.model.settings import LogSettings
from tidegate.telemetry.log_values import LONGEST, clean, printable, redact
from tidegate.telemetry.logs import configure_logs

pytestmark = pytest.mark.usefixtures("logging_as_before")

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Log:
    """What was written, in one format."""

    def __init__(self, format_: str, level: str = "debug") -> None:
        self.stream = Terminal() if format_ == "auto-terminal" else io.StringIO()
        chosen = format_.partition("-")[0]
        configure_logs(LogSettings.model_validate({"format": chosen, "level": level}), self.stream)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def logger(name: str = "tidegate.somewhere") -> Any:
    # A lazy one of a module remembers the configuration of its first line.
    return structlog.get_logger(name)


def test_json_where_nobody_looks_and_pretty_on_a_terminal() -> None:
    log = Log("auto")
    logger().info("serving", port=8080)
    assert (
        log.json[0].items()
        >= {
            "event": "serving",
            "port": 8080,
            "level": "info",
            "logger": "tidegate.somewhere",
        }.items()
    )
    log = Log("auto-terminal")
    logger().info("serving", port=8080)
    assert "serving" in log.lines[0]
    assert "\x1b[" in log.lines[0]  # colours


@pytest.mark.parametrize("name", ["uvicorn.error", "redis.connection", "asyncio", "py.warnings"])
def test_the_libraries_loggers_go_the_same_way(name: str) -> None:
    log = Log("json")
    logging.getLogger(name).warning("%s said %d", "it", 7)
    assert log.json[0]["event"] == "it said 7"
    assert log.json[0]["logger"] == name
    assert log.json[0]["level"] == "warning"


def test_warnings_of_python_are_lines() -> None:
    log = Log("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in log.json[0]["event"]


def test_what_tells_every_request_is_quiet_even_at_debug() -> None:
    log = Log("json", "debug")
    for name in (
        "uvicorn.error",
        "uvicorn.access",
        "websockets.server",
        "httpx",
        "httpcore.http11",
    ):
        logging.getLogger(name).info("> GET /ws?token=abc")
        logging.getLogger(name).debug("> authorization: Bearer abc")
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").error("failed, as 1 s ago")
    assert log.lines == []


def test_the_level_holds_for_both_kinds_of_loggers() -> None:
    log = Log("json", "warning")
    logger().info("not this")
    logging.getLogger("redis").info("nor this")
    logger().warning("this")
    logging.getLogger("redis").warning("and this")
    assert [line["event"] for line in log.json] == ["this", "and this"]


HOSTILE = [
    "two\nlines",
    "\r\n2026-01-01T00:00:00Z [info     ] forged",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028\u2029\x85\x0b\x0c",
    "\x00\x7f",
    '"},{"event":"forged"}',
    "\ud800 lone surrogate",
]


@pytest.mark.parametrize("format_", ["json", "pretty"])
@pytest.mark.parametrize("text", HOSTILE)
def test_input_can_neither_end_its_line_nor_steer_the_terminal(format_: str, text: str) -> None:
    log = Log(format_)
    logger().info(text, operation=text, more={"name " + text: [text]})
    logging.getLogger("uvicorn.error").warning("said %s", text)
    written = log.stream.getvalue()
    assert written.count("\n") == 2
    assert len(written.splitlines()) == 2
    assert printable(written, keep="\n") == written
    assert written.encode()  # what is written can be written
    if format_ == "json":
        assert all(line["event"] in (text, f"said {text}") for line in log.json)


@pytest.mark.parametrize("format_", ["json", "pretty"])
def test_an_error_with_hostile_text(format_: str) -> None:
    log = Log(format_)
    try:
        raise ValueError(f"\x1b[2Jbad token={JWT}\x07")
    except ValueError:
        logger().exception("failed")
        logging.getLogger("asyncio").exception("failed too")
    written = log.stream.getvalue()
    assert written.count("Traceback (most recent call last)") == 2
    assert JWT not in written
    assert "\x1b[2J" not in written
    assert "\x07" not in written


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET /ws/operations/42?token=s3cr3t&x=1 HTTP/1.1", "s3cr3t"),
        ("Authorization: Bearer s3cr3t", "s3cr3t"),
        ("authorization: basic dXNlcjpwdw==", "dXNlcjpwdw"),
        (f"subprotocols tidegate.v1, access_token.{JWT}", "eyJzdWIi"),
        (f"cannot parse {JWT!r}", "eyJzdWIi"),
        ("redis://user:s3cr3t@redis:6379/0 is away", "s3cr3t"),
        ("redis+sentinel://h/m?password=s3cr3t", "s3cr3t"),
        ("{'admin_token': 's3cr3t', 'port': 1}", "s3cr3t"),
        ("x-api-key=s3cr3t", "s3cr3t"),
        ("PUBLISH_TOKEN: s3cr3t", "s3cr3t"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Redis connection established",
        "operation deploy-42 of tidegate-7f9c",
        "http://127.0.0.1:8080/ws/operations/42",
        "the token has expired",
        "bad_token",
        "mail of a@b.example",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redact(text) == text


def test_values_are_hidden_by_their_names_and_bounded() -> None:
    event = clean(
        None,
        "info",
        {
            "event": "x" * 10_000,
            "token": "s3cr3t",
            "Authorization": "s3cr3t",
            "settings": {"redis": {"password": "s3cr3t", "port": 6379}},
            "many": list(range(1_000)),
            "payload": b"\xff\x00",
            "nothing": None,
        },
    )
    assert "s3cr3t" not in repr(event)
    assert event["settings"] == {"redis": {"password": "***", "port": 6379}}
    assert len(event["event"]) < LONGEST + 50
    assert len(event["many"]) == 50
    assert event["nothing"] is None
    assert event["payload"] == r"b'\xff\x00'"


@pytest.mark.parametrize(
    "piece", ["eyJ", "-eyJ", "a-", "token", "token=", "bearer ", "a:", "://", "="]
)
def test_no_text_takes_long_to_clean(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()  # others may take the processor meanwhile
    redact(text)
    clean(None, "info", {"event": text, "exception": text})
    assert time.process_time() - began < 2.0  # 10 to 60 ms; a quadratic one takes minutes
