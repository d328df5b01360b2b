"""The WebSocket handshake (RFC 6455 section 4.2) straight from the parsed request.

uvicorn writes the request out again and has websockets parse it a second time, which is a third of
the CPU of a connect. An ordinary handshake is answered from the headers that httptools has read;
anything unusual takes uvicorn's own way, which also answers what is wrong with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import unquote

from tidegate.web.access.limits import ConnectionLimiter, unavailable
from tidegate.web.server.http_protocol import HttpProtocol
from tidegate.web.server.port import Port
from tidegate.web.ws.protocol import DirectProtocol

#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ONCE = frozenset({b"sec-websocket-key", b"sec-websocket-version", b"host"})


class UpgradeProtocol(HttpProtocol):
    """The bounded protocol with a short way to `DirectProtocol`.

    Use `bind_upgrade` to make a class with a port and a limiter for uvicorn's `http=`.
    """

    limiter: ConnectionLimiter

    def handle_websocket_upgrade(self) -> None:
        if not self._is_idle():
            text = "a WebSocket handshake must not be pipelined behind pending requests"
            self._end_with("bad_request", 400, text)
            return
        refusal = self.limiter.refusal(self.loop.time())
        if refusal is not None:
            self._is_over = True
            self._head_is_read()
            self.transport.write(unavailable(refusal))
            self.transport.close()
            return
        if self.flow.read_paused:  # by what came before, which is answered
            self.transport.resume_reading()
        accept = accept_value(self.scope["method"], self.scope["http_version"], self.headers)
        if accept is None:
            super().handle_websocket_upgrade()
            self._answer_what_cannot_be_read()
        else:
            self.connections.discard(self)
            kind: Any = self.ws_protocol_class
            shaken: DirectProtocol = kind(
                config=self.config, server_state=self.server_state, app_state=self.app_state
            )
            shaken.take_handshake(self.transport, self._websocket_scope(), accept)
            self.transport.set_protocol(shaken)
        protocol: Any = self.transport.get_protocol()
        protocol.on_lost = self.port.left
        self._let_go()

    def _answer_what_cannot_be_read(self) -> None:
        """uvicorn 0.54 leaves the answer to a handshake that websockets cannot parse (a header
        above 8 KiB) where it is, and the connection open for ever.
        """
        protocol: Any = self.transport.get_protocol()
        if protocol.conn.handshake_exc is not None and not self.transport.is_closing():
            self.port.refusals["header_size"] += 1
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


def bind_upgrade(port: Port, limiter: ConnectionLimiter) -> type[UpgradeProtocol]:
    """A protocol class with these two, for `uvicorn.Config(http=...)`."""
    return type("BoundUpgradeProtocol", (UpgradeProtocol,), {"port": port, "limiter": limiter})
