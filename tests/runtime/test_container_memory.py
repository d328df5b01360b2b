"""The limit of a container, as the kernel's two versions of control groups write it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tidegate.runtime.container_memory import container_memory

MIB = 1_048_576
V2 = {"memory.max": "268435456\n", "memory.current": "104857600\n"}
V2_STAT = {"memory.stat": "anon 62914560\nfile 41943040\ninactive_file 31457280\nsock 4096\n"}
V1 = {"memory.limit_in_bytes": "268435456\n", "memory.usage_in_bytes": "104857600\n"}
V1_STAT = {"memory.stat": "cache 41943040\ninactive_file 1\ntotal_inactive_file 31457280\n"}
NO_LIMIT_V1 = {**V1, "memory.limit_in_bytes": "9223372036854771712\n"}


def written(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("group", "files", "line"),
    [
        ("", V2 | V2_STAT, "0::/\n"),
        ("kubepods/pod1", V2 | V2_STAT, "0::/kubepods/pod1\n"),
        ("", V2 | V2_STAT, "0::/kubepods/that/is/on/the/host\n"),
        ("", V2 | V2_STAT, "0::/../../elsewhere\n"),
        ("memory", V1 | V1_STAT, "5:cpu,cpuacct:/\n9:memory:/docker/on-the-host\n0::/\n"),
        ("memory/pod1", V1 | V1_STAT, "9:hugetlb,memory:/pod1\n"),
    ],
)
def test_limit_and_use(tmp_path: Path, group: str, files: Mapping[str, str], line: str) -> None:
    written(tmp_path / "groups" / group, files)
    memory = container_memory(tmp_path / "groups", own(tmp_path, line))
    assert memory is not None
    assert memory.limit_bytes == 256 * MIB
    assert memory.used_bytes() == 70 * MIB, "less the file pages that were not used lately"


def test_the_tightest_of_those_around_it_counts(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    written(root / "pod/container", {**V2, **V2_STAT, "memory.max": "max\n"})
    written(root / "pod", {**V2, **V2_STAT, "memory.max": "134217728\n"})
    written(root, V2 | V2_STAT)
    memory = container_memory(root, own(tmp_path, "0::/pod/container\n"))
    assert memory is not None
    assert memory.limit_bytes == 128 * MIB


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({**V2, "memory.max": "max\n"}, "0::/\n"),
        ({**V2, "memory.max": "0\n"}, "0::/\n"),
        ({**V2, "memory.max": "much\n"}, "0::/\n"),
        ({}, "0::/\n"),
        (V2, "\n"),
        (V2, "no line of this kind\n"),
    ],
)
def test_no_limit(tmp_path: Path, files: Mapping[str, str], line: str) -> None:
    written(tmp_path / "groups", files)
    assert container_memory(tmp_path / "groups", own(tmp_path, line)) is None


def test_no_limit_of_version_1(tmp_path: Path) -> None:
    written(tmp_path / "groups/memory", NO_LIMIT_V1)
    assert container_memory(tmp_path / "groups", own(tmp_path, "9:memory:/\n")) is None


def test_no_control_groups(tmp_path: Path) -> None:
    assert container_memory(tmp_path, tmp_path / "nothing") is None


@pytest.mark.parametrize("files", [{"memory.stat": "inactive_file x\n"}, {"memory.current": "?"}])
def test_files_that_cannot_be_read_any_more(tmp_path: Path, files: Mapping[str, str]) -> None:
    root = written(tmp_path / "groups", V2 | V2_STAT)
    memory = container_memory(root, own(tmp_path, "0::/\n"))
    assert memory is not None
    written(root, files)
    assert memory.used_bytes() is None
    (root / "memory.stat").unlink()
    assert memory.used_bytes() is None
