"""The address of a client behind proxies, from `X-Forwarded-For` (`server.forwarded_allow_ips`).

uvicorn's middleware reads the header, from the right: each proxy appends the address that it sees,
so the first one that is no trusted proxy's is the client's, and what a client wrote itself stands
left of it. Invariant: a request that does not come from a trusted address is not changed, and an
address is an IP address or the peer's own. It promises nothing about a proxy that passes the
header on without appending to it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PORT_MAX = 65_535


class ClientAddress:
    """Around the public application: sets `client` of a scope."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        """`trusted`: addresses and networks of proxies, as `server.forwarded_allow_ips`."""
        self._app = app
        inner: Any = self._with_valid
        self._forwarded = ProxyHeadersMiddleware(inner, list(trusted))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if peer is not None:
            # A socket that listens on `::` has IPv4 peers as `::ffff:192.0.2.1`.
            scope["client"] = scope["client_peer"] = (_plain(peer[0]) or peer[0], peer[1])
        forwarded: Any = self._forwarded
        await forwarded(scope, receive, send)

    async def _with_valid(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.pop("client_peer", None)
        if peer is not None and scope["client"] != peer:
            host, port = scope["client"]
            plain = _plain(host)
            is_port = 0 <= port <= PORT_MAX
            scope["client"] = peer if plain is None else (plain, port if is_port else 0)
        await self._app(scope, receive, send)


def _plain(text: str) -> str | None:
    """An address in its one spelling, IPv4 if it is a mapped one; None for anything else."""
    if "%" in text:  # a zone may be any text, and no other machine knows it
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
