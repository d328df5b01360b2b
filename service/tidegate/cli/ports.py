"""Free TCP ports, from a wanted one upwards.

A free port is no promise: somebody may take it before the child binds it. Then the child says so.
"""

from __future__ import annotations

import socket

SPAN = 200


def is_free(port: int, host: str) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        return False
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: connections in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
        return True


def free_port(wanted: int, host: str, given: set[int]) -> int:
    """The first free port from ``wanted`` on that is not in ``given``, to which it is added.

    Raises:
        OSError: none within reach.
    """
    for port in range(wanted, min(wanted + SPAN, 65_536)):
        if port not in given and is_free(port, host):
            given.add(port)
            return port
    raise OSError(f"no free port on {host} from {wanted} on")
