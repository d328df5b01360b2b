"""Servers with a master process, which puts new workers in place of the old ones on a signal."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.harness.waiting import until
from tests.servers.process import Process


async def replace_workers(master: Process, number: signal.Signals) -> None:
    """Returns when there are workers, and none of those of before."""
    before = _workers(master)
    master.signal(number)

    def is_done() -> bool:
        now = _workers(master)
        return bool(now) and now.isdisjoint(before)

    await until(is_done, master.log_tail)


def _workers(master: Process) -> set[str]:
    """Process ids: its children, since it is the process that was started."""
    return set(Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split())
