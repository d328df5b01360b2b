"""What Linux knows about a process: CPU time, memory, cores. Linux only, and it says so.

CPU time is the process's own clock (nanoseconds, all threads, user and system), not the 10 ms
ticks of /proc/<pid>/stat; the two were compared and agree. Loopback runs the receiver's TCP work
in the sender's system time, so a server's figure holds the kernel's work for its sends.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Final

from bench.errors import NotPossible

PR_SET_PDEATHSIG: Final = 1
PR_SET_TIMERSLACK: Final = 29
CPUCLOCK_SCHED: Final = 2
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def require_linux() -> None:
    """Raises `NotPossible` elsewhere."""
    if sys.platform != "linux":
        raise NotPossible(f"the bench reads Linux's /proc and cannot run on {sys.platform}")


def require_memory(needed: int, what: str) -> None:
    """Bytes. Raises `NotPossible` where so many are not free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < needed:
        raise NotPossible(
            f"{what} need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: take fewer"
        )


def cpu_ns(pid: int) -> int:
    """User and system time of all threads of `pid` so far.

    Raises `ProcessLookupError` when there is no such process."""
    # The kernel's MAKE_PROCESS_CPUCLOCK, what clock_getcpuclockid(3) returns.
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def family(pid: int) -> list[int]:
    """The process and all below it: the workers of a supervisor."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def user_system_s(pid: int) -> tuple[float, float]:
    """User and system seconds apart, in ticks of 10 ms: for the split only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS_PER_S, int(fields[12]) / TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Resident memory, counted page by page (statm may be off by megabytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"no memory figures for process {pid}")


def machine_busy_s() -> float:
    """Seconds since boot that all cores together were busy, or stolen by other guests."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def open_files_limit(wanted: int) -> int:
    """Raise our limit of open files to `wanted`, as far as allowed; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (OSError, ValueError):  # only a privileged process may raise the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    elif soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def step_back(niceness: int) -> None:
    """In a new session: let other processes go first, by so much more than the bench itself does.

    With autogroups a session competes as one, so its group has to be niced as well."""
    nice = os.nice(niceness)
    group = Path("/proc/self/autogroup")
    if nice and group.exists():
        group.write_text(str(nice))


def quick_timers() -> None:
    """Have sleeps end on time: the usual slack of 50 us is a quarter of a gap at 5,000/s."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


def die_with_parent() -> None:
    """In a new child: be killed when the process that started it is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
