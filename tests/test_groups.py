"""Tests of one group run on one worker: once they did not, and nothing told of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "group", [pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in "abc"]
)
def test_grouped(group, number):
    pass

@pytest.mark.parametrize("number", range(6))
def test_single(number):
    pass
"""


@pytest.mark.full
def test_a_group_goes_to_one_worker(tmp_path: Path) -> None:
    (tmp_path / "test_these.py").write_text(TESTS)
    words = ("-c", str(REPOSITORY / "pyproject.toml"), "-p", "tests.conftest", "-v", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-n", "3", "--dist", "loadgroup"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    workers = defaultdict(set)
    for worker, group in re.findall(r"\[(gw\d)\].*test_grouped\[(\w)-\d\]", done.stdout):
        workers[group].add(worker)
    assert [len(workers[group]) for group in "abc"] == [1, 1, 1]
