"""The check of `Host` against DNS rebinding, for servers without authentication.

Without authentication, a gateway is protected only by who can reach it. A page of any site can have
its own name resolve to 127.0.0.1 or to an address in a company network; for the browser that is one
origin, so the page can read whatever is served there. Its requests carry that name as `Host`, which
no page can change.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tidegate.model.settings import ServerSettings
from tidegate.web.problem import Forbidden

#: What `server.host` is when it names no address of its own.
_ANY_ADDRESS = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - compared with, not bound
_ANY = "*"


def host_name(header: str) -> str:
    """The name or address in a `Host` header, without its port."""
    text = header.strip(" \t").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address or a name."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.lower() in ("localhost", "localhost.")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback  # Python 3.13 says the same by itself
    return address.is_loopback


class HostRules:
    """Whom viewers may ask for. With tokens: anyone, because no page of another site has one."""

    def __init__(self, server: ServerSettings) -> None:
        hosts = {host.lower() for host in server.allowed_hosts}
        if server.host not in _ANY_ADDRESS:
            hosts.add(server.host.lower())
        self._takes_any = server.auth != "none" or _ANY in hosts
        self._names = frozenset(_bare(host) for host in hosts if not host.startswith("*."))
        self._ends = tuple(host[1:] for host in hosts if host.startswith("*."))
        #: The last `Host` that was accepted. Nearly all are the same, and parsing one takes 15 us.
        self._served: bytes | None = None

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Whether a request with these headers is served.

        Raises:
            Forbidden: it is for another host, or for none that can be told.
        """
        if self._takes_any:
            return
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) == 1 and hosts[0] == self._served:
            return
        if len(hosts) != 1 or not self._cover(host_name(hosts[0].decode("latin-1"))):
            raise Forbidden(
                "host",
                "without authentication (server.auth = none) only loopback and the hosts of "
                "server.allowed_hosts are served; add this one there",
            )
        self._served = hosts[0]

    def _cover(self, host: str) -> bool:
        return is_loopback(host) or _bare(host) in self._names or host.endswith(self._ends)


def _bare(host: str) -> str:
    """An IPv6 address may be written with and without brackets."""
    return host.removeprefix("[").removesuffix("]")
