"""HTTP of the public port: the bounded protocol, which gives WebSocket handshakes away, and `Front`
before it. What of both is uvicorn's is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidegate.web.access.limits import ConnectionLimiter, unavailable
from tidegate.web.server.http_protocol import HttpProtocol
from tidegate.web.server.port import Port
from tidegate.web.ws.acceptor import Acceptor, find_key, what_is_wrong
from tidegate.web.ws.front import Front, FrontShared


class PublicHttp(HttpProtocol):
    """The bounded protocol of the public port, which gives handshakes away."""

    limiter: ConnectionLimiter
    acceptor: Acceptor
    takes_sockets = True

    def handle_websocket_upgrade(self) -> None:
        if not self._is_idle():
            text = "a WebSocket handshake must not be pipelined behind pending requests"
            self._end_with("bad_request", 400, text)
            return
        transport, target, headers = self.transport, self.url, self.headers
        refusal = self.limiter.refusal(self.loop.time())
        key = find_key(headers)
        if refusal is not None or key is None:
            if refusal is None:
                self.port.refusals["bad_request"] += 1
            self._is_over = True
            self._head_is_read()
            transport.write(
                what_is_wrong(target, headers) if refusal is None else unavailable(refusal)
            )
            transport.close()
            return
        if self.flow.read_paused:  # by what came before, which is answered
            transport.resume_reading()
        self.connections.discard(self)
        self._let_go()
        self.acceptor.accept(transport, target, headers, key)


def bind_front(port: Port, limiter: ConnectionLimiter, acceptor: Acceptor) -> Callable[..., Front]:
    """Makes protocols with these, for `uvicorn.Config(http=...)`."""
    given = {"port": port, "limiter": limiter, "acceptor": acceptor}
    http: Any = type("BoundPublicHttp", (PublicHttp,), given)
    shared: FrontShared | None = None

    def make(**made: Any) -> Front:
        """With what uvicorn gives to a class for its `http=`."""
        nonlocal shared
        if shared is None:
            connections = made["server_state"].connections
            shared = FrontShared(port, limiter, acceptor, connections, lambda: http(**made))
        return Front(shared)

    return make
