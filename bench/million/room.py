"""What the machine allows: memory, file descriptors and addresses. The arithmetic is pure.

The run never uses all memory: it stops connecting viewers when only `RESERVE_BYTES` are left, and
ends when half of that is used, before the kernel kills a process. Swap is not counted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import NotPossible
from bench.procfs import open_files_limit

#: Kept free for restarted replicas, histories, the reconnects after a kill, and other programs.
RESERVE_BYTES: Final = 2 * 2**30
#: Memory of one more viewer: server, kernel, client, and its share of an operation. More than was
#: measured (19 KiB), as a margin.
VIEWER_BYTES: Final = 24 * 2**10
#: Memory of a replica and a swarm without viewers, and of an operation.
REPLICA_BYTES: Final = 100 * 2**20
SWARM_BYTES: Final = 60 * 2**20
OPERATION_BYTES: Final = 7 * 2**10
#: Connections from one source address, which has 28,000 ports for one destination.
PER_SOURCE: Final = 12_000
SOURCES_PER_SWARM: Final = 250
#: File descriptors of a replica or a swarm besides viewers; a replica reserves 128.
SPARE_FILES: Final = 1_000
#: Number of replicas, unless more are needed.
FEWEST_REPLICAS: Final = 4
MOST_PROCESSES: Final = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Available memory, and file descriptors: of a process of the run, and of the machine."""

    available_bytes: int
    process_files: int
    machine_files: int


def read_limits(wanted_files: int) -> Limits:
    """Raise the limit of file descriptors to `wanted_files` as far as allowed, also for child
    processes, and return the limits.
    """
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    files = open_files_limit(min(wanted_files, most))
    machine = int(Path("/proc/sys/fs/file-max").read_text())
    in_use = int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
    return Limits(available_bytes(), files, machine - in_use)


def available_bytes() -> int:
    """`MemAvailable`: what can be used without swapping.

    Raises:
        NotPossible: the kernel does not report it.
    """
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise NotPossible("/proc/meminfo has no MemAvailable: this kernel is older than 3.14")


def base_bytes(*, operations: int, replicas: int, swarms: int) -> int:
    """Memory that is used before the first viewer connects."""
    return replicas * REPLICA_BYTES + swarms * SWARM_BYTES + operations * OPERATION_BYTES


def affordable(
    open_now: int, wanted: int, available: int, *, viewer_bytes: int = VIEWER_BYTES
) -> int:
    """How many viewers may be connected in total, with `available` bytes of memory left."""
    spare = max(0, available - RESERVE_BYTES)
    return min(wanted, open_now + spare // viewer_bytes)


@dataclass(frozen=True, slots=True)
class Processes:
    """Numbers of processes, how many viewers they have room for, and what limits that."""

    replicas: int
    swarms: int
    viewers: int
    because: str = ""


def processes(viewers: int, *, replicas: int, swarms: int, cores: int, limits: Limits) -> Processes:
    """How many processes there will be. For `replicas` and `swarms`, 0 means as many as the viewers
    need, and at least `FEWEST_REPLICAS` and one swarm per core.

    If one replica is missing, the others have room for all viewers.
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
        (swarms * SOURCES_PER_SWARM * PER_SOURCE, "no more source addresses are available"),
    ):
        if most < found.viewers:
            found = Processes(replicas, swarms, most, because)
    return found


def files_wanted(viewers: int, *, replicas: int, swarms: int, cores: int) -> int:
    """File descriptors that the process with the most viewers needs."""
    share = min(swarms or cores, max(1, (replicas or FEWEST_REPLICAS) - 1))
    return -(-viewers // share) + SPARE_FILES
