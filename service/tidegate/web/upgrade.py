"""The WebSocket handshake (RFC 6455 section 4.2) straight from the parsed request.

uvicorn writes the request out again and has websockets parse it a second time, which is a third of
the CPU of a connect. An ordinary handshake is answered from the headers that httptools has read;
anything unusual takes uvicorn's own way, which also answers what is wrong with it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from functools import partial
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidegate.model.settings import ReplicaSettings
from tidegate.web.door import Door, unavailable
from tidegate.web.protocol import DirectProtocol

#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
_BODY_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BODY_TOO_LARGE = (
    b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
#: Of a body that nobody reads. More than the loop reads at once (256 KiB), so that one that is to
#: be read has been asked for before.
UNREAD_MAX_BYTES = 1_048_576
#: In a request's `scope["extensions"]`: its transport, for what ASGI has no word for.
TRANSPORT = "tidegate.transport"
#: The same: to be called by who reads the body, within bounds of its own.
READS_BODY = "tidegate.reads_body"
_ONCE = frozenset({b"sec-websocket-key", b"sec-websocket-version", b"host"})


class UpgradeProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a short way to `DirectProtocol`, and with bounds of its own: on
    heads, and on bodies that nobody reads.

    Use `bind_upgrade` to make a class with a door for uvicorn's `http=`.
    """

    door: Door
    limits: ReplicaSettings
    #: Read since the last thing that was whole: a head, a piece of a body, a request. Bounds heads
    #: and trailers, of which the parser keeps everything.
    _unended_bytes = 0
    _patience: asyncio.TimerHandle | None = None
    #: Of the request whose body is on its way: how much came, and whether somebody reads it.
    _request = 0
    _body_is_due = False
    _body_is_read = False
    _unread_bytes = 0
    _body_patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.door.is_crowded():
            transport.write(unavailable("waiting"))
            transport.close()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_read()
        self._body_is_over()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unended_bytes += len(data)
        super().data_received(data)
        if self._unended_bytes > self.limits.header_max_bytes and not self.transport.is_closing():
            self.door.refusals["header_size"] += 1
            if self._patience is not None:  # it was not answered yet
                self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()
        elif self._body_is_due and not self._body_is_read:
            self._bound_body()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._request += 1
        scope: Any = self.scope
        scope["extensions"] = {
            TRANSPORT: self.transport,
            READS_BODY: partial(self._reads_body, self._request),
        }
        if self._patience is None:  # not the first request of this connection
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._unended_bytes = 0
        self._head_is_read()
        self._body_is_due = True
        self._body_is_read = False
        self._unread_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unended_bytes = 0
        self._unread_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unended_bytes = 0
        self._body_is_over()
        super().on_message_complete()

    def _bound_body(self) -> None:
        """It is not here as a whole, and nobody has asked for it."""
        if self._unread_bytes > UNREAD_MAX_BYTES:
            self._refuse_body("body_size", _BODY_TOO_LARGE)
        elif self._body_patience is None:
            self._body_patience = self.loop.call_later(
                self.limits.header_timeout_s, self._refuse_body, "body_time", _BODY_TOO_SLOW
            )

    def _reads_body(self, request: int) -> None:
        if request == self._request:
            self._body_is_read = True
            self._stop_body_clock()

    def _body_is_over(self) -> None:
        self._body_is_due = False
        self._stop_body_clock()

    def _stop_body_clock(self) -> None:
        if self._body_patience is not None:
            self._body_patience.cancel()
            self._body_patience = None

    def _refuse_body(self, reason: str, answer: bytes) -> None:
        self.door.refusals[reason] += 1
        self._body_is_over()
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_started:
            self.transport.write(answer)
        self.transport.close()

    def _expect_head(self) -> None:
        self.door.waiting += 1
        self._patience = self.loop.call_later(self.limits.header_timeout_s, self._too_slow)

    def _head_is_read(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            self.door.waiting -= 1

    def _too_slow(self) -> None:
        self.door.refusals["header_time"] += 1
        self.transport.abort()

    def handle_websocket_upgrade(self) -> None:
        refusal = self.door.refusal(self.loop.time())
        if refusal is not None:
            self.transport.write(unavailable(refusal))
            self.transport.close()
            return
        accept = accept_value(self.scope["method"], self.scope["http_version"], self.headers)
        if accept is None:
            super().handle_websocket_upgrade()
            self._answer_what_cannot_be_read()
            return
        self.connections.discard(self)
        kind: Any = self.ws_protocol_class
        protocol: DirectProtocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.take_handshake(self.transport, self._websocket_scope(), accept)
        self.transport.set_protocol(protocol)

    def _answer_what_cannot_be_read(self) -> None:
        """uvicorn 0.54 leaves the answer to a handshake that websockets cannot parse (a header
        above 8 KiB) where it is, and the connection open for ever.
        """
        protocol: Any = self.transport.get_protocol()
        if protocol.conn.handshake_exc is not None and not self.transport.is_closing():
            self.door.refusals["header_size"] += 1
            self.transport.write(b"".join(protocol.conn.data_to_send()))
            self.transport.close()

    def _websocket_scope(self) -> dict[str, Any]:
        raw_path, _, query = self.url.partition(b"?")
        protocols = [value for name, value in self.headers if name == b"sec-websocket-protocol"]
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self.scheme == "https" else "ws",
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(raw_path.decode("latin-1")),
            "raw_path": self.root_path.encode() + raw_path,
            "query_string": query,
            "headers": self.headers,
            "subprotocols": [
                word.strip() for value in protocols for word in value.decode("latin-1").split(",")
            ],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }


def accept_value(
    method: str, http_version: str, headers: list[tuple[bytes, bytes]]
) -> bytes | None:
    """The `Sec-WebSocket-Accept` of an ordinary handshake; None for any other request.

    That there is `Upgrade: websocket` and `Connection: upgrade` is known already.
    """
    if method != "GET" or http_version != "1.1":
        return None
    once: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in once:
                return None
            once[name] = value
        elif name in (b"content-length", b"transfer-encoding"):
            return None
    key = once.get(b"sec-websocket-key", b"")
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    if len(nonce) != 16 or once.get(b"sec-websocket-version") != b"13" or b"host" not in once:
        return None
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def bind_upgrade(door: Door, limits: ReplicaSettings) -> type[UpgradeProtocol]:
    """A protocol class with this door, for `uvicorn.Config(http=...)`."""
    return type("BoundUpgradeProtocol", (UpgradeProtocol,), {"door": door, "limits": limits})
