"""Free TCP ports on the loopback address, below the range the kernel gives to outgoing connections.

A port that was free a moment ago is not a promise: another process may take it first, so whoever
starts a server on a port of its own choice must be ready to choose again. Staying below the
ephemeral range removes the usual thief, which is the test's own client connections.
"""

import random
import socket
from pathlib import Path

_LOWEST = 15_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def _ceiling() -> int:
    """The first ephemeral port (Linux), or IANA's lowest where the kernel does not tell."""
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        first = 49_152
    return first if first > _LOWEST + 1000 else 65_536


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        # As servers do: a port with connections in TIME_WAIT can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on and that was not given out by this process before."""
    ceiling = _ceiling()
    for _ in range(1000):
        port = random.randrange(_LOWEST, ceiling)
        if port not in _given and is_free(port, host):
            _given.add(port)
            return port
    raise OSError(f"no free port found between {_LOWEST} and {ceiling}")
