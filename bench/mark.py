"""The mark that each benchmark entry carries, and the `XADD` that carries it.

A mark is `~T<nanoseconds, 19 digits>.<number, 8 digits>~` inside `data`: when the publisher sent
the entry (CLOCK_MONOTONIC, so both ends must be on one machine) and which entry of its operation
it is, from 0. It has a fixed width and no character that JSON escapes, so a viewer finds it in the
bytes of any frame without parsing, however the server re-encoded the entry, and can tell loss,
repeats and reordering.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tidegate.model.settings import DispatchSettings, RedisSettings
from tidegate.redis.appending import CONSUMER, Retention
from tidegate.redis.lua import PUBLISH

KEY_PREFIX: Final = "operation-progress:"
START: Final = b"~T"
# Offsets from the start of the mark: the time, then the number.
TIME: Final = slice(2, 21)
NUMBER: Final = slice(22, 30)
LENGTH: Final = 31

_TEMPLATE: Final = b"~T%019d.%08d~"
# As in the design: nothing but a plain XADD, with a cap that the server may apply loosely.
MAX_STREAM_ENTRIES: Final = 1000
# Makes the delivered frame about 250 bytes, a usual progress update.
_NOTE: Final = b"transcoding part 17 of 40 at 31.4 frames per second"


#: A token of a text begins with it; it is nowhere else in a frame.
TOKEN_START: Final = b"^"


class Mark(NamedTuple):
    """What a mark says."""

    sent_ns: int
    number: int


def find_mark(text: bytes) -> Mark | None:
    """The first mark in `text`. The crowd does the same in line; this one is for tests."""
    at = text.find(START)
    if at < 0 or len(text) - at < LENGTH:
        return None
    mark = text[at : at + LENGTH]
    return Mark(int(mark[TIME]), int(mark[NUMBER]))


def operation_name(index: int) -> str:
    return f"bench-{index:05d}"


def message_template(status: str | None = None, pad_bytes: int = 0) -> bytes:
    """The JSON of an entry as a template for `% (sent_ns, number)`."""
    extra = b"" if status is None else b',"status":"' + status.encode() + b'"'
    if pad_bytes:
        extra += b',"pad":"' + b"x" * pad_bytes + b'"'
    return (
        b'{"timestamp":1795000000.123,"type":"progress","data":{"mark":"'
        + _TEMPLATE
        + b'","percent":42,"note":"'
        + _NOTE
        + b'"'
        + extra
        + b"}}"
    )


def token(number: int) -> str:
    """A token of five characters, as many as those of language models have."""
    return f"{TOKEN_START.decode()}{number:04d}"


def xadd_token(operation: str, number: int) -> bytes:
    """The whole `XADD` of it, without a cap."""
    message = b'{"type":"append","data":{"text":"%b"}}' % token(number).encode()
    arguments = (b"XADD", (KEY_PREFIX + operation).encode(), b"*", b"message", message)
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments)
    return b"*%d\r\n%b" % (len(arguments), parts)


def xadd_template(
    operation: str, pad_bytes: int = 0, *, max_entries: int = MAX_STREAM_ENTRIES
) -> bytes:
    """A whole `XADD` in RESP as a template for `% (sent_ns, number)`."""
    key = (KEY_PREFIX + operation).encode()
    arguments = (b"XADD", key, b"MAXLEN", b"~", b"%d" % max_entries, b"*", b"message")
    return _command_template(arguments, message_template(pad_bytes=pad_bytes))


def publish_template(operation: str) -> bytes:
    """The same as a call of the script of the Python package, with its defaults."""
    key = (KEY_PREFIX + operation).encode()
    limits, kept = DispatchSettings(), Retention()
    dispatch = (CONSUMER, limits.max_entries, limits.max_bytes, limits.max_entry_bytes)
    rest = (*dispatch, *kept, "*", 0, "", "", 0, 0, "")
    arguments = ["EVALSHA", PUBLISH.sha, 1, RedisSettings().group, *rest]
    texts = [str(part).encode() for part in arguments]
    return _command_template([*texts[:3], key, *texts[3:]], message_template())


def _command_template(arguments: Sequence[bytes], message: bytes) -> bytes:
    size = len(message % (0, 0))
    head = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in arguments)
    return b"*%d\r\n" % (len(arguments) + 1) + head + b"$%d\r\n" % size + message + b"\r\n"
