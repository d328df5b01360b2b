"""The sockets that a replica listens on, bound before anything else so that a taken port ends the
start.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from tidegate.model.errors import TidegateError

BACKLOG = 4096
#: As an address: all, of both families.
EVERY_ADDRESS = "::"


@contextlib.contextmanager
def listen(host: str, port: int, name: str, notsent_lowat_bytes: int) -> Iterator[socket.socket]:
    """A listening socket; `name` is the setting that the port came from.

    `::` is every address of both families, where the kernel has IPv6, and 0.0.0.0 where it has not:
    a chart cannot know what its nodes have.

    Raises:
        TidegateError: the address cannot be bound.
    """
    if host == EVERY_ADDRESS and not has_ipv6():
        host = "0.0.0.0"  # noqa: S104 - every address was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == EVERY_ADDRESS:
            # The default of the kernel may be otherwise (net.ipv6.bindv6only).
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Accepted sockets inherit it. Without it the kernel hides up to 4 MB for a browser
            # that does not read, and a viewer would be late by that much.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, notsent_lowat_bytes)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise TidegateError(
                f"{name}: cannot listen on {host}:{port}: {error.strerror}; "
                "give another port, or 0 for any free one"
            ) from None
        bound.listen(BACKLOG)
        bound.settimeout(0)
        yield bound


def has_ipv6() -> bool:
    """Whether a socket can listen on IPv6: kernels may be without (`ipv6.disable=1`)."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((EVERY_ADDRESS, 0))
    except OSError:
        return False
    return True
