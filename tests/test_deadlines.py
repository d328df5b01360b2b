"""A test that hangs fails, also under uvloop: once it went on for ever, and its run with it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CONFTEST = """
from tests import deadlines
from tests.harness.fixtures import loop_factories as pytest_asyncio_loop_factories

deadlines.AGAIN_S = 0.3
"""
TESTS = """
import asyncio
import threading

import pytest

@pytest.fixture
async def part():
    yield
    await asyncio.Event().wait()

async def test_waits():
    await asyncio.Event().wait()

async def test_waits_beside_a_busy_task():
    async def spin():
        while True:
            await asyncio.sleep(0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(spin())

async def test_blocks_the_loop():
    threading.Event().wait()

def test_blocks():
    threading.Event().wait()

async def test_ends_badly(part):
    pass
"""


@pytest.mark.full
def test_whatever_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_these.py").write_text(TESTS)
    words = ("-c", str(REPOSITORY / "pyproject.toml"), "-p", "tests.conftest", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--timeout=0.3"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert re.search(r"4 failed, 1 passed, 1 error", done.stdout), done.stdout + done.stderr
    assert done.stdout.count("Timeout (>0.3s)") >= 5
