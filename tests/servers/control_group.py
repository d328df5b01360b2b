"""A control group with a memory limit, as a container has one; needs root on Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Its folder. Skips the test where none can be made. It must be empty at the end."""
    is_v1 = (ROOT / "memory").is_dir()
    group = (ROOT / "memory" if is_v1 else ROOT) / f"tidegate-test-{os.getpid()}"
    try:
        if not is_v1:
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        names = ("memory.limit_in_bytes",) if is_v1 else ("memory.max",)
        for name in names:
            (group / name).write_text(str(limit_bytes))
        swap = group / ("memory.swappiness" if is_v1 else "memory.swap.max")
        if swap.exists():
            swap.write_text("0")
        yield group
    finally:
        group.rmdir()


def most_used_bytes(group: Path) -> int:
    """The most that was used at once, file pages included."""
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if (group / name).exists():
            return int((group / name).read_text())
    raise FileNotFoundError(f"{group}: the kernel does not tell the most that was used")
