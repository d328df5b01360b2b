"""Free TCP ports, from a wanted one upwards.

A free port is no promise: someone may take it before the child binds it. Then the child says so.
"""

from __future__ import annotations

import errno
import socket

SPAN = 200


def is_free(port: int, host: str) -> bool:
    """Whether a server could listen there.

    Raises:
        OSError: it could not on any port, because the host is no address of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: connections in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def free_port(wanted: int, host: str, given: set[int]) -> int:
    """The first free port from ``wanted`` on that is not in ``given``, to which it is added.

    Raises:
        OSError: none within reach, or the host cannot be listened on.
    """
    for port in range(wanted, min(wanted + SPAN, 65_536)):
        try:
            free = port not in given and is_free(port, host)
        except OSError as error:
            raise OSError(f"cannot listen on {host}: {error.strerror}") from None
        if free:
            given.add(port)
            return port
    raise OSError(f"no free port on {host} from {wanted} on")
