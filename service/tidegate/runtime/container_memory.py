"""The memory limit and usage of the container of this process, from its control group (cgroup),
version 2 or 1: https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html.

The usage excludes inactive file pages, which the kernel can reclaim; Kubernetes calls that the
working set.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
#: A limit above this is none: version 1 writes 2**63 less a page.
NO_LIMIT_BYTES = 1 << 60


class _Names(NamedTuple):
    """Of the files of a version."""

    limit: str
    usage: str
    inactive: str


_V2 = _Names("memory.max", "memory.current", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class ContainerMemory:
    """The tightest limit of the control group and those around it."""

    def __init__(self, group: Path, names: _Names, limit_bytes: int) -> None:
        self._usage = group / names.usage
        self._stat = group / "memory.stat"
        self._inactive = f"{names.inactive} "
        self.limit_bytes = limit_bytes

    def used_bytes(self) -> int | None:
        """In bytes; None where the files cannot be read any more."""
        try:
            used = int(self._usage.read_text())
            lines = self._stat.read_text().splitlines()
            taken_back = [int(line.split()[1]) for line in lines if line.startswith(self._inactive)]
        except (OSError, ValueError, IndexError):
            return None
        return max(0, used - sum(taken_back))


def container_memory(cgroups: Path = CGROUPS, own: Path = OWN) -> ContainerMemory | None:
    """That of this process; None without a limit, or where there are no control groups.

    `cgroups`: where they are mounted. `own`: which are this process' own.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    found: list[ContainerMemory] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            found += _limits(cgroups, path, _V2)
        elif "memory" in controllers.split(","):
            found += _limits(cgroups / "memory", path, _V1)
    return min(found, key=lambda one: one.limit_bytes, default=None)


def _limits(root: Path, path: str, names: _Names) -> list[ContainerMemory]:
    """Of the group and those around it. In a container the path may be the host's, and is not here:
    then the root is the container's own.
    """
    group = root / path.lstrip("/")
    if ".." in path or not group.is_dir():
        group = root
    found = []
    for each in (group, *group.parents):
        limit = _number(each / names.limit)
        if limit is not None and 0 < limit < NO_LIMIT_BYTES:
            found.append(ContainerMemory(each, names, limit))
        if each == root:
            break
    return found


def _number(path: Path) -> int | None:
    """None: it says `max`, or is not there."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
