"""The ways in that a viewer can take, and what it says on each: requests and messages as bytes."""

import enum
import json
from typing import Final

#: In front of the operation's name in every frame of the gateway's.
OPERATION: Final = b'"operation":"'


class Way(enum.Enum):
    """How a viewer is connected."""

    SOCKET = "one socket for one operation"
    MANY = "many operations on one socket"
    EVENTS = "server-sent events"
    CENTRIFUGO = "Centrifugo's JSON protocol, one socket for one channel"


def path_of(way: Way, operation: str, query: str = "") -> str:
    """What a viewer of this operation asks for."""
    if way is Way.MANY:
        return "/ws"
    if way is Way.CENTRIFUGO:
        return "/connection/websocket"
    return f"/{'sse' if way is Way.EVENTS else 'ws'}/operations/{operation}{query}"


def events_request(address: tuple[str, int], path: str) -> bytes:
    """As an EventSource asks."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        "Accept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n"
    ).encode()


def watch_message(operation: bytes) -> bytes:
    """A frame that asks for one more operation. The mask may be zero: nobody is in between."""
    return _masked(json.dumps({"type": "watch", "operation": operation.decode()}).encode())


def centrifugo_message(channel: bytes) -> bytes:
    """What its clients send first: connect and subscribe, joined in one frame."""
    subscribe = json.dumps({"id": 2, "subscribe": {"channel": channel.decode()}})
    return _masked(b'{"id":1,"connect":{}}\n' + subscribe.encode())


#: Centrifugo's ping and its answer are an empty object each, in a text frame.
CENTRIFUGO_PING: Final = b"{}"


def centrifugo_pong() -> bytes:
    """The answer."""
    return _masked(CENTRIFUGO_PING)


def _masked(text: bytes) -> bytes:
    size = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2)
    return b"\x81" + size + bytes(4) + text
