"""The listening sockets of a replica, and a port that several worker processes share.

They are bound before anything else is started, so that a port in use ends the start.

On Linux each worker has its own socket (SO_REUSEPORT), and the kernel distributes connections by a
hash of their addresses. With four workers, 3,000 connections at 800/s were 722 to 787 for each;
with one socket that all four accept from, they were 223 to 1,135, for a fifth more CPU. Other
systems do not distribute connections, so there the workers share one socket.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator

from tidegate.model.errors import TidegateError

BACKLOG = 4096
#: Every address of both families.
EVERY_ADDRESS = "::"


@contextlib.contextmanager
def listen(host: str, port: int, name: str, notsent_lowat_bytes: int) -> Iterator[socket.socket]:
    """A listening socket, as a context manager; `name` is the setting of the port.

    `::` is every address of both families if the kernel has IPv6, and 0.0.0.0 otherwise: a chart
    does not know what its nodes have.

    Raises:
        TidegateError: the address cannot be bound.
    """
    with _bind(host, port, name, notsent_lowat_bytes) as bound:
        bound.listen(BACKLOG)
        yield bound


class WorkersPort:
    """A port that several processes share. Use it as a context manager."""

    def __init__(self, host: str, port: int, name: str, notsent_lowat_bytes: int) -> None:
        """Bind the port.

        Raises:
            TidegateError: it cannot be bound, or the workers of another gateway listen on it.
        """
        self._host = host
        self._name = name
        self._notsent_lowat_bytes = notsent_lowat_bytes
        #: Holds the port while no worker listens. It is bound without SO_REUSEPORT, which would
        #: join any other program that has set it on this port, and set afterwards, because
        #: the sockets of the workers can only be bound if it is set here as well.
        self._kept = _bind(host, port, name, notsent_lowat_bytes)
        self._is_dealt = sys.platform == "linux"
        if self._is_dealt:
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        else:
            self._kept.listen(BACKLOG)

    @property
    def number(self) -> int:
        """The port."""
        number: int = self._kept.getsockname()[1]
        return number

    def for_worker(self) -> socket.socket:
        """A bound socket for a worker, which listens on it as soon as it can serve; until then it
        receives no connections.

        Raises:
            TidegateError: the address cannot be bound any more.
        """
        if not self._is_dealt:
            return self._kept.dup()
        return _bind(
            self._host, self.number, self._name, self._notsent_lowat_bytes, reuse_port=True
        )

    def __enter__(self) -> WorkersPort:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()


def has_ipv6() -> bool:
    """Whether a socket can listen on IPv6; it may be disabled in the kernel (`ipv6.disable=1`)."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((EVERY_ADDRESS, 0))
    except OSError:
        return False
    return True


def _bind(
    host: str, port: int, name: str, notsent_lowat_bytes: int, *, reuse_port: bool = False
) -> socket.socket:
    """A socket that is bound and does not listen. Raises as `listen`."""
    if host == EVERY_ADDRESS and not has_ipv6():
        host = "0.0.0.0"  # noqa: S104 - every address was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if host == EVERY_ADDRESS:
            # The default depends on the kernel (net.ipv6.bindv6only).
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Accepted sockets inherit it. Without it the kernel buffers up to 4 MB for a browser
            # that does not read, and the viewer would lag by that much unnoticed.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, notsent_lowat_bytes)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise TidegateError(
                f"{name}: cannot listen on {host}:{port}: {error.strerror}; "
                "give another port, or 0 for any free one"
            ) from None
    except BaseException:
        bound.close()
        raise
    bound.settimeout(0)
    return bound
