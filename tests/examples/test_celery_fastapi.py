"""The example with its one command, a real worker and two real browsers."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT

import pytest

from tests.cli.browser import Browser
from tests.integrations.environment import ROOT, path_of_tests, python
from tests.servers import binaries

pytestmark = [
    pytest.mark.full,
    pytest.mark.real("valkey9", "chromium"),
    pytest.mark.timeout(900),
]

STATES = """JSON.stringify([...document.querySelectorAll("tidegate-progress")].map((bar) =>
  ["running", "completed", "cancelled", "failed"].find((one) => bar.matches(`:state(${one})`))))"""


def is_now(*states: str) -> str:
    wanted = ",".join(f'"{state}"' for state in states)
    return f"{STATES} === '[{wanted}]'"


async def test_upload_watch_stop_and_a_second_device() -> None:
    program = binaries.browser()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        python(), "-m", "examples.celery_fastapi.start",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path_of_tests()},
        stdout=PIPE, stderr=STDOUT, start_new_session=True,
    )  # fmt: skip
    said: list[str] = []
    reading: asyncio.Task[None] | None = None
    try:
        assert process.stdout is not None
        page = ""
        while "startup complete" not in " ".join(said) or not page:
            line = (await process.stdout.readline()).decode()
            assert line, said
            said.append(line)
            if line.startswith("open "):
                page = line.split()[1]

        async def read(stream: asyncio.StreamReader) -> None:
            while line := await stream.readline():
                said.append(line.decode())

        reading = asyncio.create_task(read(process.stdout))
        async with Browser(program) as first, Browser(program) as second:
            await first.open(page)
            await first.until("typeof upload === 'function'")
            await first.evaluate("void upload(new File(['a\\nb\\nc\\n'], 'short.csv'))")
            await first.until(is_now("completed"))
            long = "void upload(new File(['row\\n'.repeat(5000)], 'long.csv'), 0.2)"
            await first.evaluate(long)
            await first.until(is_now("running", "completed"))
            await second.open(page)
            await second.until(is_now("running", "completed"))
            await second.evaluate("document.querySelector('button').click()")
            for browser in (first, second):
                await browser.until(is_now("cancelled", "completed"))
    except AssertionError as error:
        error.add_note("".join(said)[-6_000:])
        raise
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
        if reading is not None:
            await reading
