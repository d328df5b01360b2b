"""How memory is used: servers, Redis, clients and the kernel.

Processes count with their resident memory. The kernel's part is what it allocates for sockets,
files and their tables (`Slab`, `VmallocUsed`, `PageTables`, `Percpu`, pages of socket buffers),
for both ends of each connection, because both are on this machine. `other` is the rest of the
decrease of `MemAvailable`, which includes other programs.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.procfs import rss_bytes

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
KERNEL: Final = ("Slab", "VmallocUsed", "PageTables", "Percpu")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at one moment."""

    servers: int
    redis: int
    clients: int
    kernel: int
    available: int

    def since(self, before: "Memory") -> "Split":
        """The increase since an earlier moment."""
        return Split(
            servers=self.servers - before.servers,
            redis=self.redis - before.redis,
            clients=self.clients - before.clients,
            kernel=self.kernel - before.kernel,
            total=before.available - self.available,
        )


@dataclass(frozen=True, slots=True)
class Split:
    """An increase in bytes, by owner; `total` is the decrease of available memory."""

    servers: int
    redis: int
    clients: int
    kernel: int
    total: int

    @property
    def other(self) -> int:
        return self.total - self.servers - self.redis - self.clients - self.kernel

    def per_viewer(self, viewers: int) -> dict[str, float]:
        """Bytes per viewer, by owner."""
        parts = asdict(self) | {"other": self.other}
        return {name: part / max(1, viewers) for name, part in parts.items()}


def read_memory(*, servers: Iterable[int], redis: int, clients: Iterable[int]) -> Memory:
    """The memory of these processes, by their pids, and of the kernel.

    Raises:
        ProcessLookupError: a process has ended.
    """
    figures = _meminfo()
    return Memory(
        servers=sum(map(_rss, servers)),
        redis=_rss(redis),
        clients=sum(map(_rss, clients)),
        kernel=sum(figures.get(name, 0) for name in KERNEL) + _socket_pages() * PAGE_BYTES,
        available=figures["MemAvailable"],
    )


def _rss(pid: int) -> int:
    try:
        return rss_bytes(pid)
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def _meminfo() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def _socket_pages() -> int:
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.rpartition(" ")[2])
    return 0
