"""The example with its one command, a real worker and three real browsers."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.cli.browser import Browser
from tests.examples.example import chromium, started
from tests.integrations.environment import path_of_tests, python

pytestmark = [
    pytest.mark.full,
    pytest.mark.real("valkey9", "chromium"),
    pytest.mark.timeout(900),
]

MAX_BYTES = 1_000_000
STATES = """JSON.stringify([...document.querySelectorAll("tidegate-progress")].map((bar) =>
  ["running", "completed", "cancelled", "failed"].find((one) => bar.matches(`:state(${one})`))))"""
IDS = "[...list.children].map(({ id }) => id).join()"
#: What a page of another user may try.
TRY = """import("/tidegate.js").then(async ({ TidegateClient, cancel, watchFeed }) => {
  const [, url] = (await (await fetch("/")).text()).match(/url: "(.*?)"/);
  const token = await (await fetch("/token?user=bob")).text();
  const client = new TidegateClient({ url, token });
  const feed = watchFeed(client, "user:ann");
  feed.addEventListener("error", () => (globalThis.feedRefused = feed.failure.code));
  await cancel(client, "OPERATION").catch(({ code }) => (globalThis.cancelRefused = code));
})"""


def is_now(*states: str) -> str:
    wanted = ",".join(f'"{state}"' for state in states)
    return f"{STATES} === '[{wanted}]'"


#: Queries that are refused.
WRONG = (
    "user=..%2Fann&name=a",
    "user=&name=a",
    "user=ann&name=",
    f"user=ann&name={'a' * 101}",
    "user=ann&name=a&seconds_per_row=-1",
    "user=ann&name=a&seconds_per_row=nan",
)


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
            assert await second.evaluate(IDS) == await first.evaluate(IDS)

            operation = await first.evaluate("list.firstChild.id")
            await stranger.open(f"{page}?user=bob")
            await stranger.evaluate(f"void {TRY.replace('OPERATION', operation)}")
            assert await stranger.until("globalThis.cancelRefused") == "forbidden"
            assert await stranger.until("globalThis.feedRefused") == "forbidden"

            await second.evaluate("document.querySelector('button').click()")
            for browser in (first, second):
                await browser.until(is_now("cancelled", "completed"))
                await browser.until("document.querySelector('button').disabled")

        async with httpx.AsyncClient(base_url=page, trust_env=False) as http:
            for query in WRONG:
                assert (await http.post(f"/uploads?{query}", content=b"a")).status_code == 422
            assert (await http.get("/token?user=ann%20bob")).status_code == 422
            large = await http.post("/uploads?user=ann&name=a", content=bytes(MAX_BYTES + 1))
            assert large.status_code == 413
