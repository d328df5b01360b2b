"""What redis-py raises, and what leaves instead."""

from __future__ import annotations

import pytest
import redis.asyncio.sentinel
import redis.exceptions as theirs

from tidegate.model.errors import RedisUnavailable, StreamUnusable, WriteUncertain
from tidegate.model.ids import OperationId
from tidegate.redis.errors import CLIENT_ERRORS, in_words, translate, translate_write

OPERATION = OperationId("42")
SECRETS = "10.1.2.3:6379 <ConnectionPool(username=tide,password=hunter2,host=10.1.2.3)>"
#: Not about Redis: a fork in the wrong moment, a command table that makes no sense.
MISTAKES = (theirs.ChildDeadlockedError, theirs.IncorrectPolicyType)
#: Every other error that redis-py has.
KINDS = sorted(
    {
        kind
        for kind in vars(theirs).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind not in MISTAKES
    },
    key=lambda kind: kind.__name__,
)


def made(kind: type[Exception]) -> Exception:
    """With a text that must not be seen."""
    text = "3999 10.1.2.3:6379" if issubclass(kind, theirs.AskError) else SECRETS
    error: Exception = kind(text)
    return error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_pool_options_and_addresses_left_the_process(kind: type[Exception]) -> None:
    error = made(kind)
    assert isinstance(error, CLIENT_ERRORS)
    for ours in (translate(error), translate(error, OPERATION), translate_write(error, OPERATION)):
        assert isinstance(ours, RedisUnavailable)
        for word in ("10.1.2.3", "6379", "hunter2", "tide", "Pool", "<"):
            assert word not in str(ours)
        assert 0 < len(str(ours)) < 120


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, f"Connect call failed {SECRETS}"),
        TimeoutError(),
        OSError(f"no route to {SECRETS}"),
        RuntimeError(f"unable to perform operation on <TCPTransport {SECRETS}>"),
        redis.asyncio.sentinel.MasterNotFoundError(f"No master found for 'm' : {SECRETS}"),
    ],
)
def test_errors_of_the_system_are_no_different(error: Exception) -> None:
    ours = translate(error)
    assert isinstance(ours, RedisUnavailable)
    assert "10.1.2.3" not in str(ours)


def test_the_log_gets_what_redis_said() -> None:
    error = theirs.ConnectionError("Error 111 connecting to 10.1.2.3:6379. Connection refused.")
    ours = translate(error)
    assert isinstance(ours, RedisUnavailable)
    assert str(ours) == "Redis cannot be reached"
    assert ours.detail == str(error)
    assert in_words(ours) == str(error)
    assert in_words(RedisUnavailable("our own")) == "our own"
    assert in_words(TimeoutError()) == "no response in time"


def test_what_is_wrong_with_a_certificate_is_told_without_names() -> None:
    said = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {} (_ssl.c:1006)"
    reason = "IP address mismatch, certificate is not valid for '10.1.2.3'."
    error = theirs.ConnectionError(f"Error 1 connecting to 10.1.2.3:6379. {said.format(reason)}")
    expected = "TLS with Redis failed: certificate verify failed: IP address mismatch"
    assert str(translate(error)) == expected


def test_a_code_of_the_server_is_told_without_its_text() -> None:
    error = theirs.ResponseError("MISCONF Redis is configured to save RDB snapshots on /var/lib")
    assert str(translate(error)) == "Redis refused a command (MISCONF)"
    assert str(translate(theirs.ResponseError("no such thing"))) == "Redis refused a command (ERR)"


def test_a_key_that_holds_something_else_is_the_streams_fault_only_where_there_is_one() -> None:
    error = theirs.ResponseError("WRONGTYPE Operation against a key holding the wrong kind")
    for ours in (translate(error, OPERATION), translate_write(error, OPERATION)):
        assert isinstance(ours, StreamUnusable)
        assert "42" in str(ours)
    assert isinstance(translate(error), RedisUnavailable)


@pytest.mark.parametrize(
    ("error", "perhaps"),
    [
        (theirs.ConnectionError("Connection closed by server."), True),
        (theirs.TimeoutError("Timeout reading from 10.1.2.3:6379"), True),
        (theirs.OutOfMemoryError("command not allowed"), False),
        (theirs.MaxConnectionsError("Too many connections"), False),
        (ConnectionRefusedError(111, "refused"), False),
    ],
)
def test_a_write_says_whether_it_may_have_happened(error: Exception, perhaps: bool) -> None:
    ours = translate_write(error, OPERATION)
    assert isinstance(ours, WriteUncertain) is perhaps
    assert ("may or may not have been written" in str(ours)) is perhaps
