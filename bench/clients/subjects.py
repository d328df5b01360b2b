"""The servers of the clients: ours, Centrifugo, and a minimal Socket.IO server on these streams."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.centrifugo import CHANNELS, centrifugo
from bench.clients.libraries import CENTRIFUGE, SOCKET_IO, SOURCES, TIDEGATE, Library
from bench.subjects import Subject, gateway

#: A page asks Centrifugo where an operation stands, as the other servers tell by themselves.
HISTORY: Final = (
    f"CENTRIFUGO_{CHANNELS}_ALLOW_HISTORY_FOR_SUBSCRIBER=true",
    f"CENTRIFUGO_{CHANNELS}_ALLOW_HISTORY_FOR_ANONYMOUS=true",
)


def server_of(library: Library, modules: Path, *, operations: int, origin: str) -> Subject:
    """Raises `NotPossible`."""
    if library is TIDEGATE:
        return gateway(("--set", f'auth.origins=["{origin}"]'))
    if library is CENTRIFUGE:
        subject = centrifugo()
        program, *settings = subject.argv
        return replace(subject, argv=(program, *HISTORY, *settings))
    if library is SOCKET_IO:
        return Subject(
            name="socket.io",
            argv=(
                *("node", str(SOURCES / "server.mjs"), str(modules)),
                *("{port}", "{redis}", str(operations)),
            ),
            ready="http://127.0.0.1:{port}/",
        )
    raise ValueError(f"{library.name} has no server here")
