"""One replica from its settings to its end, or several of them as workers of one pod; `serve` is
what the command line calls.

`replica` wires the parts, `drainer` sends viewers away at a pace, `report` says what is going on,
`listening` binds the ports. `supervisor` and `worker` are for `server.workers` above 1.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from tidegate.model.settings import Settings
from tidegate.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from tidegate.runtime.replica import Replica
    from tidegate.runtime.supervisor import Supervisor

__all__ = ["serve"]


async def serve(settings: Settings) -> None:
    """Run one replica, or a supervisor of several workers, until SIGTERM or SIGINT, drain, and
    return; a second signal hurries it.

    Raises:
        TidegateError: the start is refused; the text says why.
    """
    configure_logs(settings.log)
    runs = _make(settings)
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, runs.stop)
    try:
        await runs.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _make(settings: Settings) -> Replica | Supervisor:
    """What of both is not needed is not imported: a replica's modules take 28 MB."""
    if settings.server.workers > 1:
        from tidegate.runtime.supervisor import Supervisor

        return Supervisor(settings)

    from tidegate.runtime.descriptors import raise_descriptor_limit
    from tidegate.runtime.replica import Replica

    raise_descriptor_limit(settings)
    return Replica(settings)
