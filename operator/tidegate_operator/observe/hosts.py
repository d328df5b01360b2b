"""Which hosts the operator logs in to: those of its own `redis_url`, and those in `redis_hosts`.

A Secret is read with the operator's rights, so whoever may write a Gateway could otherwise have a
password that they may not read sent to a server of their own. What is checked is what the address
names; a Sentinel or a node of a Cluster that is allowed is believed when it names others.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from tidegate.redis.address import Address, Node

#: Of the allowed ones, in a message.
SHOWN_MAX = 10


class AllowedHosts:
    """A host without a port stands for all of its ports."""

    def __init__(self, hosts: Iterable[str], own: Address | None) -> None:
        self._any_port: set[str] = set()
        self._nodes: set[Node] = set() if own is None else {_plain(node) for node in own.nodes}
        for text in hosts:
            parts = urlsplit(f"//{text}")
            name = parts.hostname or ""
            if parts.port is None:
                self._any_port.add(name)
            else:
                self._nodes.add(Node(name, parts.port))

    def refused(self, address: Address) -> list[str]:
        """Servers of this address that are not allowed."""
        nodes = map(_plain, address.nodes)
        return [
            str(node)
            for node in nodes
            if node not in self._nodes
            and (node.path is not None or node.host not in self._any_port)
        ]

    def __str__(self) -> str:
        every = [*sorted(map(str, self._nodes)), *sorted(self._any_port)]
        more = f" and {len(every) - SHOWN_MAX} more" if len(every) > SHOWN_MAX else ""
        return (", ".join(every[:SHOWN_MAX]) or "none") + more


def _plain(node: Node) -> Node:
    """Names of hosts are the same in any case, and with a dot at their end."""
    return node._replace(host=node.host.lower().rstrip("."))
