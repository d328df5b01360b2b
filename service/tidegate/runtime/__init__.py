"""Runs one replica, or several as worker processes of one pod; the command line calls `serve`.

`replica` wires the parts, `drainer` disconnects viewers at a limited rate, `report` produces the
metrics and `/debug/state`, `listening` binds the ports. `supervisor` and `worker` are used if
`server.workers` is above 1.
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
    """Run one replica, or a supervisor of several workers, until SIGTERM or SIGINT; then drain and
    return. A second signal ends the drain.

    Raises:
        TidegateError: it cannot start; the text has the reason.
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
    """Imports only what is needed: the modules of a replica take 28 MB."""
    if settings.server.workers > 1:
        from tidegate.runtime.supervisor import Supervisor

        return Supervisor(settings)

    from tidegate.runtime.descriptors import raise_descriptor_limit
    from tidegate.runtime.replica import Replica

    raise_descriptor_limit(settings)
    return Replica(settings)
