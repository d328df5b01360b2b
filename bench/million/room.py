"""What the machine allows: memory, descriptors and addresses. The arithmetic is pure.

The bench never takes the last of the memory: it stops connecting where `RESERVE_BYTES` would be
touched, and ends where half of that is gone, because the kernel would end a process next. Swap is
not counted, so a machine that would swap stops as well.
"""

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import NotPossible

#: For what changes while viewers are connected: a replica that starts again, histories, the storm
#: after a killed one, and everything else on the machine.
RESERVE_BYTES: Final = 2 * 2**30
#: One more viewer with everything: server, kernel, client, its part of an operation. Above what
#: was measured (19 KiB), because it is for the next ones.
VIEWER_BYTES: Final = 24 * 2**10
#: A replica, a swarm and Redis without viewers.
REPLICA_BYTES: Final = 100 * 2**20
SWARM_BYTES: Final = 60 * 2**20
OPERATION_BYTES: Final = 7 * 2**10
#: Connections from one source address, which has 28,000 ports to one destination.
PER_SOURCE: Final = 12_000
SOURCES_PER_SWARM: Final = 250
#: Descriptors of a replica or a swarm for what is no viewer; a replica keeps 128 for itself.
SPARE_FILES: Final = 1_000
#: Without a reason for more.
FEWEST_REPLICAS: Final = 4
MOST_PROCESSES: Final = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the machine and of a process of ours."""

    available_bytes: int
    process_files: int
    machine_files: int


def read_limits(wanted_files: int) -> Limits:
    """Raises our limit of descriptors to `wanted_files` where that is allowed; children inherit."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(wanted_files, most)
    for limit in ((wanted, max(wanted, hard)), (min(wanted, hard), hard)):
        if soft >= wanted:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        except (OSError, ValueError):  # only a privileged process may raise the hard limit
            continue
        break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    machine = int(Path("/proc/sys/fs/file-max").read_text())
    in_use = int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
    return Limits(available_bytes(), soft, machine - in_use)


def available_bytes() -> int:
    """`MemAvailable`: what could be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise NotPossible("/proc/meminfo has no MemAvailable: this kernel is older than 3.14")


def base_bytes(*, operations: int, replicas: int, swarms: int) -> int:
    """What is used before the first viewer."""
    return replicas * REPLICA_BYTES + swarms * SWARM_BYTES + operations * OPERATION_BYTES


def affordable(
    open_now: int, wanted: int, available: int, *, viewer_bytes: int = VIEWER_BYTES
) -> int:
    """How many viewers may be connected in all, with so much memory left."""
    spare = max(0, available - RESERVE_BYTES)
    return min(wanted, open_now + spare // viewer_bytes)


@dataclass(frozen=True, slots=True)
class Processes:
    """How many of each, how many viewers they have room for, and what allows no more."""

    replicas: int
    swarms: int
    viewers: int
    because: str = ""


def processes(viewers: int, *, replicas: int, swarms: int, cores: int, limits: Limits) -> Processes:
    """Of replicas and swarms, 0 means as many as `viewers` need and at least one for each core.

    One replica may be missing: the others have room for all viewers.
    """
    each = limits.process_files - SPARE_FILES
    if each < 1:
        return Processes(0, 0, 0, f"a process may have {limits.process_files:,} descriptors")
    needed = -(-viewers // each)
    replicas = replicas or min(MOST_PROCESSES, max(FEWEST_REPLICAS, needed + 1))
    swarms = swarms or min(MOST_PROCESSES, max(cores, needed))
    found = Processes(replicas, swarms, viewers)
    for most, because in (
        (
            min(swarms, max(1, replicas - 1)) * each,
            f"a process may have {limits.process_files:,} descriptors (ulimit -n)",
        ),
        (
            max(0, limits.machine_files - SPARE_FILES * (replicas + swarms)) // 2,
            f"the machine has {limits.machine_files:,} descriptors left (fs.file-max)",
        ),
        (swarms * SOURCES_PER_SWARM * PER_SOURCE, "there are no more source addresses"),
    ):
        if most < found.viewers:
            found = Processes(replicas, swarms, most, because)
    return found


def files_wanted(viewers: int, *, replicas: int, swarms: int, cores: int) -> int:
    """Descriptors of the process with the most, where the limit can be raised."""
    share = min(swarms or cores, max(1, (replicas or FEWEST_REPLICAS) - 1))
    return -(-viewers // share) + SPARE_FILES
