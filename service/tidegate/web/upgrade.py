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

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidegate.web.protocol import DirectProtocol

#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ONCE = frozenset({b"sec-websocket-key", b"sec-websocket-version", b"host"})


class UpgradeProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a short way to `DirectProtocol`."""

    def handle_websocket_upgrade(self) -> None:
        accept = accept_value(self.scope["method"], self.scope["http_version"], self.headers)
        if accept is None:
            super().handle_websocket_upgrade()
            return
        self.connections.discard(self)
        kind: Any = self.ws_protocol_class
        protocol: DirectProtocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.take_handshake(self.transport, self._websocket_scope(), accept)
        self.transport.set_protocol(protocol)

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
