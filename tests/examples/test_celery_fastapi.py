"""The example with its one command, a real worker and three real browsers."""

from __future__ import annotations

import asyncio

import pytest

from tests.cli.browser import Browser
from tests.examples.example import chromium, started
from tests.integrations.environment import path_of_tests, python

pytestmark = [
    pytest.mark.full,
    pytest.mark.real("valkey9", "chromium"),
    pytest.mark.timeout(900),
]

STATES = """JSON.stringify([...document.querySelectorAll("tidegate-progress")].map((bar) =>
  ["running", "completed", "cancelled", "failed"].find((one) => bar.matches(`:state(${one})`))))"""
#: What a page of another user may try.
CANCEL = """import("/tidegate.js").then(async ({ TidegateClient, cancel }) => {
  const [, url] = (await (await fetch("/")).text()).match(/url: "(.*?)"/);
  const token = await (await fetch("/token?user=bob")).text();
  await cancel(new TidegateClient({ url, token }), "OPERATION")
    .catch(({ code }) => (globalThis.refused = code));
})"""


def is_now(*states: str) -> str:
    wanted = ",".join(f'"{state}"' for state in states)
    return f"{STATES} === '[{wanted}]'"


async def test_upload_watch_stop_and_a_second_device() -> None:
    interpreter = await asyncio.to_thread(python)
    async with started("celery_fastapi", interpreter, PYTHONPATH=path_of_tests()) as example:
        page, _ = await example.until(r"^open (\S+)", "startup complete")
        async with (
            Browser(chromium()) as first,
            Browser(chromium()) as second,
            Browser(chromium()) as stranger,
        ):
            await first.open(page)
            await first.until("typeof upload === 'function'")
            await first.evaluate("void upload(new File(['a\\nb\\nc\\n'], 'short.csv'))")
            await first.until(is_now("completed"))
            long = "void upload(new File(['row\\n'.repeat(5000)], 'long.csv'), 0.2)"
            await first.evaluate(long)
            await first.until(is_now("running", "completed"))

            await second.open(page)
            await second.until(is_now("running", "completed"))
            assert await second.evaluate("list.textContent") == await first.evaluate(
                "list.textContent"
            )

            operation = await first.evaluate("list.firstChild.id")
            await stranger.open(f"{page}?user=bob")
            theirs = CANCEL.replace("OPERATION", operation)
            await stranger.evaluate(f"void {theirs}")
            assert await stranger.until("globalThis.refused") == "forbidden"
            assert await stranger.evaluate(is_now())

            await second.evaluate("document.querySelector('button').click()")
            for browser in (first, second):
                await browser.until(is_now("cancelled", "completed"))
                assert await browser.evaluate("document.querySelector('button').disabled")
