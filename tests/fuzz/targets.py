"""The targets: each takes any bytes and raises only if something is wrong."""

# ruff: noqa: PT017 - what an error must be is looked at where it is caught, not expected

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]
import orjson

from tests.fuzz.http import feed as feed_http
from tests.fuzz.socket import feed
from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.errors import InvalidInput
from tidegate.model.frames import FrameKind, entry_frame
from tidegate.model.ids import (
    OPERATION_ID_MAX_LENGTH,
    StreamId,
    parse_operation_id,
    parse_stream_id,
)
from tidegate.model.settings import AuthSettings, ViewerSettings
from tidegate.model.traceparent import parse_traceparent, traceparent_of
from tidegate.redis.replies import read_relay
from tidegate.web.auth.credentials import TOKEN_MAX_BYTES, Token, find_token
from tidegate.web.auth.keys import FixedKeys, secret_key
from tidegate.web.auth.verifier import Verifier, read_claims
from tidegate.web.http.publish import PublishRejected, _split
from tidegate.web.problem import Unauthenticated
from tidegate.web.request import read_ask

VIEWER = ViewerSettings()
AUTH = AuthSettings(secret="a secret of 32 bytes, or more.....", cookie="session")
NOW = 1_795_000_000.0
ID = StreamId(1795, 1)


class Target(NamedTuple):
    """`run` takes any bytes; `seeds` show the way in."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def ids(data: bytes) -> None:
    """Operation ids are plain; stream ids read back as they were written."""
    text = data.decode("latin-1")
    try:
        operation = parse_operation_id(text)
        assert operation == text
        assert len(text) <= OPERATION_ID_MAX_LENGTH
        assert text.isascii()
        assert not set(text) & set("{}*?[]\\/ \r\n\0")
    except InvalidInput:
        pass
    for reading in (text, data.decode("utf-8", errors="replace")):
        try:
            found = parse_stream_id(reading)
        except InvalidInput:
            continue
        assert parse_stream_id(str(found)) == found
        assert 0 <= min(found) <= max(found) < 2**64


def query(data: bytes) -> None:
    """A query string is understood or refused with the field's name."""
    try:
        operation, ask = read_ask("42", data, VIEWER)
    except InvalidInput as error:
        assert error.field
        return
    assert operation == "42"
    assert ask.history is None or 0 <= ask.history <= VIEWER.history_max_entries


def token(data: bytes) -> None:
    """Headers: a token is found, there is none, or it is refused without repeating it."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    headers = [(name.strip().lower(), value.strip(b" \t")) for name, _, value in lines]
    protocols = [
        word.strip()
        for name, value in headers
        if name == b"sec-websocket-protocol"
        for word in value.decode("latin-1").split(",")
    ]
    queries = [value for name, value in headers if name == b"query"]
    try:
        found = find_token(headers, protocols, queries[-1] if queries else b"", AUTH)
    except Unauthenticated as error:
        assert len(str(error)) < 200
        return
    if found is not None:
        assert 0 < len(found.text) <= TOKEN_MAX_BYTES
        assert repr(found) == "Token(***)"
        _verify(found.text)


def _verify(text: str) -> None:
    verifier = Verifier(AUTH, _KEYS, lambda: NOW)
    verifying = verifier.verify(Token(text))
    try:
        verifying.send(None)  # it waits for nothing: the key is here
    except Unauthenticated as error:
        assert len(text) < 20 or text not in str(error)
    except StopIteration as done:
        assert done.value.user


_KEYS = FixedKeys([secret_key("a secret of 32 bytes, or more.....")])


def claims(data: bytes) -> None:
    """A signed payload gives an identity within its bounds, or is refused."""
    try:
        identity = read_claims(data, AUTH, NOW)
    except Unauthenticated:
        return
    assert 0 < len(identity.user) <= 256
    assert identity.user.isprintable()
    assert identity.expires_at is not None
    assert identity.expires_at > NOW
    assert identity.limit is None or identity.limit >= 0
    assert identity.token_id is None or 0 < len(identity.token_id) <= 256


def traceparent(data: bytes) -> None:
    """It reads back as it was written; an entry with it is read, whatever it is."""
    found = parse_traceparent(data)
    if found is not None:
        assert parse_traceparent(str(found).encode()) == found
    traceparent_of(RawEntry(b"1-0", [b"message", data]))
    traceparent_of(RawEntry(b"1-0", data.split(b",")))


def relay(data: bytes) -> None:
    """A relay message is one of ours or none; its entries can be read and make JSON frames."""
    message = read_relay(data)
    if message is None:
        return
    for raw in message.entries:
        _frame(raw)


def entry(data: bytes) -> None:
    """Whatever a backend writes becomes a frame that a browser can read."""
    _frame(RawEntry(b"1795-1", [b"message", data]))
    fields = data.split(b",")
    _frame(RawEntry(b"1795-1", fields[: len(fields) // 2 * 2]))


def _frame(raw: RawEntry) -> None:
    frame_ = entry_frame(read_entry(ID, raw), b"1795-1", b"42", FrameKind.ENTRY)
    frame = json.loads(frame_.payload.decode())
    assert frame["id"] == "1795-1"
    assert frame["operation"] == "42"
    assert isinstance(frame["type"], str)
    assert {"timestamp", "data"} <= frame.keys()


def body(data: bytes) -> None:
    """What was published in one piece is in pieces of JSON, or refused."""
    try:
        parts = _split(data)
    except PublishRejected as error:
        assert error.status == 400
        return
    if len(parts) > 1:
        assert [orjson.Fragment(part) for part in parts]


def frames(data: bytes) -> None:
    """Any bytes on an open socket: answers are whole frames, the end has a code of the table."""
    feed(data)


def http(data: bytes) -> None:
    """Any bytes on a connection of HTTP: answers are whole, and nothing of it stays."""
    feed_http(data)


def _masked(text: bytes, opcode: int = 0x81) -> bytes:
    return bytes([opcode, 0x80 | len(text)]) + b"\0\0\0\0" + text


_JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl"
_PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"

TARGETS: dict[str, Target] = {
    "ids": Target(ids, (b"42", b"a.b:c@d~e+f=g-h", b"1795-0", b"18446744073709551615-1")),
    "query": Target(query, (b"last_event_id=1795-0", b"history=10", b"history=all&x=%41")),
    "token": Target(
        token,
        (
            b"authorization: Bearer " + _JWT,
            b"sec-websocket-protocol: tidegate.v1, access_token." + _JWT,
            b"cookie: a=b; session=" + _JWT + b"\nquery: token=abc",
        ),
    ),
    "claims": Target(
        claims,
        (
            b'{"sub":"u","exp":1796000000,"iat":1,"jti":"a","nbf":2}',
            b'{"sub":7,"exp":1796000000.5,"connection_limit":3,"operations":["a","b-*"],"aud":[]}',
        ),
    ),
    "traceparent": Target(
        traceparent, (_PARENT, b'{"traceparent":"' + _PARENT + b'"}', b"traceparent," + _PARENT)
    ),
    "relay": Target(
        relay,
        (
            msgpack.packb([b"pod-1", b"1-0", 0, [[b"1-1", [b"message", b"{}"]]], None]),
            msgpack.packb([b"pod-1", b"", 1, [[b"1-1", 70000]], 1]),
        ),
    ),
    "entry": Target(
        entry, (b'{"timestamp":1,"type":"progress","data":{"status":"completed"}}', b"a,b,type,c")
    ),
    "body": Target(body, (b'{"type":"log"}', b'[{"a":1},{"b":"]"}]', b" [ ] ")),
    "frames": Target(
        frames,
        (
            b"\x07" + _masked(b'{"type":"ping"}'),
            b"\x00" + _masked(b"x", 0x89) + _masked(b"", 0x8A),
            b"\x01" + _masked(b"a", 0x01) + _masked(b"b", 0x00) + _masked(b"c", 0x80),
            b"\x00" + _masked(b"\x03\xe8", 0x88),
            b"\x02" + _masked(b'{"type":"watch","operation":"42"}') + _masked(b"\xff"),
        ),
    ),
    "http": Target(
        http,
        (
            b"\xff" + _GET * 3,
            b"\x07" + _GET + b"POST /read HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + _GET,
            b"\x40POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            b"\x30GET /x HTTP/1.0\r\n\r\n",
            b"\x21POST /read HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"Content-Length: 2\r\n\r\nab" + _GET,
        ),
    ),
}
