"""Which pages may connect: the check of `Origin` against cross-site WebSocket hijacking.

A browser sends `Origin` with every WebSocket handshake and does not let a page change it; the
same-origin policy does not hold for WebSockets, so the server must check. What is no browser
usually sends none and has to bring a token. A token in a cookie is no proof of that: a browser adds
it to an image of any page, without `Origin`; then `Sec-Fetch-Site` has to say whose page it is,
which no page can change either. Origins are compared as scheme, host and port (RFC 6454), without
any guessing: what cannot be read is refused, and so is `null`. A rule may leave open the port of
loopback (`http://localhost:*`), which the settings accept for a demo only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tidegate.web.auth.credentials import Headers

ORIGIN_MAX_LENGTH = 512
#: `Sec-Fetch-Site` of a page of the same origin, and of what a person typed or chose.
_OWN_SITES = (b"same-origin", b"none")

_HOST = r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
_ANY_PORT = re.compile(r"(?P<scheme>https?)://(?P<host>localhost|127\.0\.0\.1|\[::1\]):\*")
_ORIGIN = re.compile(rf"(?P<scheme>https?)://(?P<any>\*\.)?{_HOST}", re.ASCII)
_AUTHORITY = re.compile(_HOST, re.ASCII)
_DEFAULT_PORT = {"http": 80, "https": 443}


class _Origin(NamedTuple):
    scheme: str
    host: str
    #: None, in a rule: any.
    port: int | None
    any_subdomain: bool

    def covers(self, origin: _Origin) -> bool:
        if self.scheme != origin.scheme or self.port not in (None, origin.port):
            return False
        if self.any_subdomain:
            return origin.host.endswith("." + self.host)
        return origin.host == self.host


def _parse(text: str) -> _Origin | None:
    match = _ORIGIN.fullmatch(text.lower()) if len(text) <= ORIGIN_MAX_LENGTH else None
    if match is None:
        return None
    scheme, port = match["scheme"], match["port"]
    number = int(port) if port else _DEFAULT_PORT[scheme]
    return _Origin(scheme, match["host"], number, match["any"] is not None)


def _parse_rule(text: str) -> _Origin | None:
    match = _ANY_PORT.fullmatch(text.lower())
    if match is not None:
        return _Origin(match["scheme"], match["host"], None, any_subdomain=False)
    return _parse(text)


class OriginRules:
    """The rules of `auth.origins`, read once."""

    def __init__(self, origins: Sequence[str]) -> None:
        rules = (_parse_rule(origin) for origin in origins)
        self._rules = tuple(rule for rule in rules if rule is not None)

    def cover(self, origin: str) -> bool:
        """Whether one of them names this origin."""
        page = _parse(origin)
        if page is None or page.any_subdomain:
            return False
        return any(rule.covers(page) for rule in self._rules)


def origin_allowed(
    origin: str | None, host: str | None, allowed: Sequence[str], *, has_token: bool
) -> bool:
    """Whether a request with these `Origin` and `Host` headers may go on.

    Args:
        origin: the header, None when there is none.
        host: the header that names this server.
        allowed: `auth.origins`; empty: only pages of the same host. They replace that rule.
        has_token: the request brings a token, or none is asked for.
    """
    if origin is None:
        return has_token
    if allowed:
        return OriginRules(allowed).cover(origin)
    page = _parse(origin)
    if page is None or page.any_subdomain:
        return False
    here = _AUTHORITY.fullmatch(host.lower()) if host and len(host) <= ORIGIN_MAX_LENGTH else None
    if here is None:
        return False
    # Which scheme the page's server has behind a proxy is not known; the page's tells.
    port = int(here["port"]) if here["port"] else _DEFAULT_PORT[page.scheme]
    return (here["host"], port) == (page.host, page.port)


def request_allowed(headers: Headers, allowed: Sequence[str], *, has_token: bool) -> bool:
    """`origin_allowed` from a request's headers; an `Origin` or `Host` given twice is refused."""
    origins: list[bytes] = []
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"origin":
            origins.append(value)
        elif name == b"host":
            hosts.append(value)
    if len(origins) > 1 or len(hosts) > 1:
        return False
    return origin_allowed(
        origins[0].decode("latin-1") if origins else None,
        hosts[0].decode("latin-1") if hosts else None,
        allowed,
        has_token=has_token,
    )


def comes_from_here(headers: Headers) -> bool:
    """Whether a request whose token is in a cookie comes from a page that may use it.

    That is one whose `Origin`, which `request_allowed` has looked at, is told, or one of the same
    origin. Browsers say which (`Sec-Fetch-Site`) to https and to loopback only.
    """
    sites: list[bytes] = []
    for name, value in headers:
        if name == b"origin":
            return True
        if name == b"sec-fetch-site":
            sites.append(value.strip(b" \t"))
    return len(sites) == 1 and sites[0] in _OWN_SITES
