"""The address of a client behind proxies, from `X-Forwarded-For` (`server.forwarded_allow_ips`).

It is read from the right: each proxy appends the address that it sees, so the first one that is no
trusted proxy's is the client's, and what a client wrote itself stands left of it. Invariant: a
request that does not come from a trusted address is not changed, and an address is an IP address or
the peer's own. It promises nothing about a proxy that passes the header on without appending to it.

Releases of uvicorn differ in what their middleware reads (several lines, ports), so it is not used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

PORT_MAX = 65_535
_HEADER = b"x-forwarded-for"


class ClientAddress:
    """Around the public application: sets `client` of a scope."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        """`trusted`: addresses and networks of proxies, as `server.forwarded_allow_ips`."""
        self._app = app
        self._trusted = [ipaddress.ip_network(text) for text in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if peer is not None:
            # A socket that listens on `::` has IPv4 peers as `::ffff:192.0.2.1`.
            address = _address(peer[0])
            scope["client"] = peer if address is None else (str(address), peer[1])
            if address is not None and self._trusts(address):
                client = self._forwarded(scope["headers"])
                if client is not None:
                    scope["client"] = client
        await self._app(scope, receive, send)

    def _forwarded(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, int] | None:
        """Who asked the first proxy that is trusted; None where that is no address."""
        lines = [value.decode("latin-1") for name, value in headers if name == _HEADER]
        found = None
        for text in reversed(",".join(lines).split(",")):
            host, port = _split(text.strip())
            address = _address(host)
            if address is None:
                return None
            found = str(address), port
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _split(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[host]` or `[host]:port`; a port that is none is 0."""
    if text.startswith("["):
        host, end, port = text[1:].partition("]")
        return (host, _port(port[1:]) or 0) if end and port[:1] in ("", ":") else (text, 0)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        number = _port(port)
        return (text, 0) if number is None else (host, number)
    return text, 0


def _port(text: str) -> int | None:
    """None where it is no number."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if 0 <= number <= PORT_MAX else 0


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, IPv4 if it is a mapped one; None for anything else."""
    if "%" in text:  # a zone may be any text, and no other machine knows it
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
