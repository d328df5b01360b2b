"""The sockets that a replica listens on, bound before anything else so that a taken port ends the
start; and one port for several worker processes.

On Linux each worker has a socket of its own (SO_REUSEPORT), and the kernel deals connections out
by their addresses. With one socket that four workers accept from, 3,000 connections at 800/s came
to 223 to 1,135 for each, and cost a fifth more CPU; with one for each to 722 to 787. Elsewhere the
kernel does not deal out, so there they share the socket.
"""

from __future__ import annotations

import contextlib
import socket
import sys
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
    with _bind(host, port, name, notsent_lowat_bytes) as bound:
        bound.listen(BACKLOG)
        yield bound


class WorkersPort:
    """One port for several processes. Use as a context manager."""

    def __init__(self, host: str, port: int, name: str, notsent_lowat_bytes: int) -> None:
        """Raises `TidegateError` as `listen`, also when other workers listen there."""
        self._host = host
        self._name = name
        self._notsent_lowat_bytes = notsent_lowat_bytes
        #: Keeps the port while no worker listens. It is bound without SO_REUSEPORT, which would
        #: join whoever else has set it on this port; those that are bound later need it here, too.
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
        """A bound socket to be given to a worker, which listens on it when it can serve: until
        then no connection is dealt to it.

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
    """Whether a socket can listen on IPv6: kernels may be without (`ipv6.disable=1`)."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((EVERY_ADDRESS, 0))
    except OSError:
        return False
    return True


def _bind(
    host: str, port: int, name: str, notsent_lowat_bytes: int, *, reuse_port: bool = False
) -> socket.socket:
    """Bound, not listening. Raises as `listen`."""
    if host == EVERY_ADDRESS and not has_ipv6():
        host = "0.0.0.0"  # noqa: S104 - every address was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
    except BaseException:
        bound.close()
        raise
    bound.settimeout(0)
    return bound
