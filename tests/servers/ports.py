"""TCP ports on the loopback address, given by the system.

A server in this process binds port 0 and is asked. A server in another process has to be told its
port before it starts: `free_port` lets the kernel choose one and keeps it bound, without listening,
for as long as its owner or this process lives. Linux gives such a port to nobody else, neither to
who binds 0 nor to an outgoing connection, but lets a server with SO_REUSEADDR (all of ours) listen
on it, as often as it is restarted. So two runs on one machine never meet.
"""

import socket
import sys
import weakref

#: What keeps ports ours until the end: a file descriptor each; a test needs a handful.
_kept: list[socket.socket] = []


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nothing listens there. One that `free_port` has given out counts as free."""
    with socket.socket() as probe:
        # As servers do: a port with connections in TIME_WAIT can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(owner: object | None = None) -> int:
    """A port for a server in another process, given out once and kept as long as `owner` lives.

    Elsewhere than on Linux a kept port could not be listened on, so it is let go again: another
    program may take it first, and whoever starts a server there must be ready to choose again.
    """
    chosen = _bound(0)
    port: int = chosen.getsockname()[1]
    _keep(chosen, owner)
    return port


def free_ports_in_a_row(count: int) -> int:
    """The first of so many ports, kept until the end, for who looks for the next free one."""
    while True:
        row = [_bound(0)]
        first: int = row[0].getsockname()[1]
        try:
            row += [_bound(first + step) for step in range(1, count) if is_free(first + step)]
        except OSError:
            pass  # taken in between
        for chosen in row:
            _keep(chosen, None)
        if len(row) == count:
            return first


def _bound(port: int) -> socket.socket:
    chosen = socket.socket()
    chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        chosen.bind(("127.0.0.1", port))
    except OSError:
        chosen.close()
        raise
    return chosen


def _keep(chosen: socket.socket, owner: object | None) -> None:
    if sys.platform != "linux":
        chosen.close()
    elif owner is None:
        _kept.append(chosen)
    else:
        weakref.finalize(owner, chosen.close)
