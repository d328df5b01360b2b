"""HTTP of the public port: the bounded protocol, which gives WebSocket handshakes away, and `Front`
before it.
"""

from __future__ import annotations

from collections.abc import Callable

from tidegate.web.access.limits import ConnectionLimiter, unavailable
from tidegate.web.server.answering import Answering
from tidegate.web.server.connections import ConnectionRegistry
from tidegate.web.server.http_protocol import Bind, HttpProtocol
from tidegate.web.server.port import Port
from tidegate.web.server.upgrade import Upgrade
from tidegate.web.ws.acceptor import Acceptor, find_key, what_is_wrong
from tidegate.web.ws.front import Front, FrontShared


class PublicHttp(HttpProtocol):
    """The bounded protocol of the public port, which gives handshakes away."""

    takes_sockets = True

    def __init__(
        self,
        port: Port,
        answering: Answering,
        members: ConnectionRegistry,
        limiter: ConnectionLimiter,
        acceptor: Acceptor,
    ) -> None:
        super().__init__(port, answering, members)
        self._limiter = limiter
        self._acceptor = acceptor

    def handle_handshake(self, handshake: Upgrade) -> None:
        """See `HttpProtocol`."""
        if self._is_ahead:
            text = "a WebSocket handshake must not be pipelined behind pending requests"
            self._end_with("bad_request", 400, text)
            return
        transport, target, headers = self.transport, handshake.target, handshake.headers
        refusal = self._limiter.refusal(self._loop.time())
        key = find_key(headers)
        if refusal is not None or key is None:
            if refusal is None:
                self.port.refusals["bad_request"] += 1
            self._idle.head_is_whole()
            transport.write(
                what_is_wrong(target, headers) if refusal is None else unavailable(refusal)
            )
            self.end()
            return
        self._reading.resume()  # paused by what came before, which is answered
        self._let_go()
        self._acceptor.accept(transport, target, headers, key)


def bind_front(port: Port, limiter: ConnectionLimiter, acceptor: Acceptor) -> Bind:
    """Return what makes protocols for this port, for `runtime.server.Server`."""

    def bind(answering: Answering, members: ConnectionRegistry) -> Callable[[], Front]:
        def http() -> PublicHttp:
            return PublicHttp(port, answering, members, limiter, acceptor)

        shared = FrontShared(port, limiter, acceptor, members, http)
        return lambda: Front(shared)

    return bind
