"""Answers WebSocket handshakes (RFC 6455 section 4.2) of our own server, without ASGI: there is no
scope and no queue, and a task only where something has to be awaited.

A valid handshake is answered from its parsed head; the response to an invalid one comes from
`websockets`. Authorization is not decided here: the endpoint refuses on the open socket.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tidegate.model import close_codes
from tidegate.model.settings import Settings
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.frame_schemas import SUBPROTOCOL
from tidegate.web.problem import last_answer
from tidegate.web.request import RequestHead
from tidegate.web.server.connections import ConnectionRegistry
from tidegate.web.ws.asgi_bridge import AsgiBridge, scope_of
from tidegate.web.ws.handshake import SocketEndpoint, admitted
from tidegate.web.ws.protocol import Phase, SocketsShared, WebSocketProtocol
from tidegate.web.ws.sender import DirectSender

_log = logging.getLogger(__name__)

RawHeaders = Sequence[tuple[bytes, bytes]]

_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)
_CHOSEN = b"\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL.encode()
_END = b"\r\n\r\n"
#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ONCE = frozenset({b"sec-websocket-key", b"sec-websocket-version"})
_BODY = frozenset({b"content-length", b"transfer-encoding"})


class SocketApp(Protocol):
    """The application whose endpoints handle the sockets."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """The ASGI application, used if `server.sender` is `asgi`."""

    def socket_endpoint(self, path: str) -> SocketEndpoint:
        """The endpoint for this path. It refuses a path that it does not know."""


class Acceptor:
    """Accepts the WebSockets of one port."""

    def __init__(
        self,
        app: SocketApp,
        limiter: ConnectionLimiter,
        settings: Settings,
        on_end: Callable[[], None],
    ) -> None:
        """`on_end` is called when an accepted connection has ended."""
        self._app = app
        self._is_asgi = settings.server.sender == "asgi"
        self._limiter = limiter
        self._viewer = settings.viewer
        self._on_end = on_end
        self._on_gone = self._gone  # one for all sockets
        self._shared: SocketsShared
        self._tasks: set[asyncio.Task[None]]

    def serve(self, members: ConnectionRegistry, tasks: set[asyncio.Task[None]]) -> None:
        """Register connections and tasks in these, which the server ends at shutdown. Call it
        before the first connection.
        """
        self._shared = SocketsShared(self._viewer, members, self._on_end)
        self._tasks = tasks

    def accept(
        self, transport: asyncio.Transport, target: bytes, headers: RawHeaders, key: bytes
    ) -> WebSocketProtocol:
        """Answer this handshake, whose `key` was found by `find_key`. The returned protocol takes
        over the transport.
        """
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("latin-1")
        offered = [value for name, value in headers if name == b"sec-websocket-protocol"]
        subprotocols = [
            word.strip() for value in offered for word in value.decode("latin-1").split(",")
        ]
        chosen = _CHOSEN if SUBPROTOCOL in subprotocols else b""
        transport.write(b"".join((_SWITCHING, accept_value(key), chosen, _END)))
        protocol = WebSocketProtocol(transport, self._shared)
        head = RequestHead(unquote(path) if "%" in path else path, query, headers, subprotocols)
        try:
            rest = self._begin(protocol, head)
        except Exception:  # noqa: BLE001 - a bug of ours ends this socket only
            _failed(protocol)
        else:
            if rest is not None:
                task = self._shared.loop.create_task(_run(rest, protocol))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return protocol

    def _begin(
        self, protocol: WebSocketProtocol, head: RequestHead
    ) -> Coroutine[Any, Any, None] | None:
        if self._is_asgi:
            # So many that the application refuses them itself, with its words, where it can.
            bridge = AsgiBridge(protocol, most=4 * int(self._viewer.messages_per_s))
            return self._app(scope_of(head), bridge.receive, bridge.send)
        sender = protocol.owner = DirectSender(protocol)
        sender.on_gone = self._on_gone
        endpoint = self._app.socket_endpoint(head.path)
        handlers = admitted(self._limiter, sender, endpoint, head)
        protocol.on_text = handlers.on_text
        return handlers.run()

    def _gone(self, sender: DirectSender) -> None:
        self._limiter.leave(sender)
        self._limiter.observer.left(sender.record)


async def _run(rest: Coroutine[Any, Any, None], protocol: WebSocketProtocol) -> None:
    try:
        await rest
    except Exception:  # noqa: BLE001 - as above
        _failed(protocol)


def _failed(protocol: WebSocketProtocol) -> None:
    """Log a bug of ours, and close the socket."""
    _log.exception("the WebSocket endpoint failed")
    if protocol.phase is Phase.OPEN:
        protocol.send_close(close_codes.KEEPALIVE.code, "")


def find_key(headers: RawHeaders) -> bytes | None:
    """The key of a valid handshake; None for any other request.

    The caller has checked `Upgrade: websocket` and `Connection: upgrade`. `Host` and `Origin` are
    checked on admission.
    """
    once: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in once:
                return None
            once[name] = value.strip(b" \t")  # httptools leaves what is behind it
        elif name in _BODY:
            return None
    key = once.get(b"sec-websocket-key", b"")
    if once.get(b"sec-websocket-version") != b"13" or len(key) != 24:
        return None
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    return key if len(nonce) == 16 else None


def accept_value(key: bytes) -> bytes:
    """The `Sec-WebSocket-Accept` for this key."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def what_is_wrong(target: bytes, headers: RawHeaders) -> bytes:
    """The HTTP response that refuses an invalid handshake."""
    conn = ServerProtocol(logger=logging.getLogger("websockets.server"))
    said = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
    response = conn.accept(Request(target.decode("latin-1"), said))
    vars(conn).clear()  # breaks a reference cycle through its parser
    if response.status_code == 101:  # websockets accepts a body
        return last_answer(400, "bad_request", "a handshake has no body", retry=False)
    return response.serialize()
