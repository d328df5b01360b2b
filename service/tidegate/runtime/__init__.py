"""One replica from its settings to its end; `serve` is what the command line calls.

`replica` wires the parts, `drainer` sends viewers away at a pace, `report` says what is going on,
`listening` binds the ports.
"""

from __future__ import annotations

import asyncio
import signal

from tidegate.model.settings import Settings
from tidegate.runtime.descriptors import raise_descriptor_limit
from tidegate.runtime.replica import Replica
from tidegate.telemetry.logs import configure_logs

__all__ = ["Replica", "serve"]


async def serve(settings: Settings) -> None:
    """Run one replica until SIGTERM or SIGINT, drain, and return; a second signal hurries it.

    Raises:
        TidegateError: the start is refused; the text says why.
    """
    configure_logs(settings.log)
    raise_descriptor_limit(settings)
    replica = Replica(settings)
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, replica.stop)
    try:
        await replica.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
