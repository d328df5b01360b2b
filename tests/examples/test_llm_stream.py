"""The example with its one command, in a real browser, while a replica is killed."""

from __future__ import annotations

import os
import re
import signal

import httpx
import pytest

from examples.llm_stream.model import answer
from tests.cli.browser import Browser
from tests.examples.example import Example, chromium, started
from tests.harness.waiting import until

pytestmark = [
    pytest.mark.full,
    pytest.mark.real("valkey9", "chromium"),
    pytest.mark.timeout(240),
]

QUESTION = "Why?"
TEXT = "document.getElementById('answer').textContent"
STATUS = "document.getElementById('status').textContent"
#: More than one frame has.
SOME_CHARS = 40


async def grows(browser: Browser) -> str:
    """Wait until the page shows more of the answer; all that it shows then."""
    before = await browser.evaluate(TEXT)
    await browser.until(f"{TEXT}.length >= {len(before) + SOME_CHARS}")
    text: str = await browser.evaluate(TEXT)
    assert text.startswith(before)
    assert answer(QUESTION).startswith(text)
    return text


async def kill_the_replica_with_viewers(example: Example) -> str:
    """The address of the one that is left."""
    replicas = re.findall(
        r"^replica-\d is (\S+), admin (\S+); kill -9 (\d+)", example.said, re.MULTILINE
    )
    watched: dict[str, bool] = {}

    async def one_is_watched() -> bool:  # the socket of a page that was left is closed soon
        async with httpx.AsyncClient(trust_env=False) as http:
            for _, admin, _ in replicas:
                metrics = (await http.get(f"{admin}/metrics")).text
                found = re.search(r"^tidegate_viewers{state=.live.} (\d+)", metrics, re.MULTILINE)
                watched[admin] = found is not None and found[1] != "0"
        return sum(watched.values()) == 1

    await until(one_is_watched, lambda: str(watched))
    ((_, _, pid),) = (one for one in replicas if watched[one[1]])
    ((left, _, _),) = (one for one in replicas if not watched[one[1]])
    os.kill(int(pid), signal.SIGKILL)
    return str(left)


async def test_an_answer_survives_a_reload_a_killed_replica_and_a_second_tab() -> None:
    async with started("llm_stream") as example:
        page, _ = await example.until(r"^open (\S+)", "startup complete")
        async with Browser(chromium()) as first, Browser(chromium()) as second:
            await first.open(page)
            await first.evaluate(f"document.getElementById('question').value = '{QUESTION}'")
            await first.evaluate("document.querySelector('#form button').click()")
            await grows(first)
            assert await first.evaluate(STATUS) == f"{QUESTION}: running"

            await first.evaluate("globalThis.isOld = true; location.reload()")
            await first.until("!globalThis.isOld && document.readyState === 'complete'")
            await grows(first)
            left = await kill_the_replica_with_viewers(example)
            await grows(first)

            await second.open(await first.evaluate("location.href"))
            await grows(second)
            await grows(first)

            await second.evaluate("document.getElementById('stop').click()")
            for browser in (first, second):
                await browser.until(f"{STATUS} === '{QUESTION}: cancelled'")
            chat = await first.evaluate("location.hash.slice(1)")
            async with httpx.AsyncClient(trust_env=False) as http:
                state = (await http.get(f"{left}/operations/{chat}")).json()["data"]
            assert await first.evaluate(TEXT) == await second.evaluate(TEXT) == state["text"]
            assert answer(QUESTION).startswith(state["text"])

            await first.evaluate("location.hash = '../<b>'")
            await first.until(f"{STATUS}.includes('is no operation id')")
        async with httpx.AsyncClient(base_url=page, trust_env=False) as http:
            for question in ("", "?" * 201, None, {"text": "?"}):
                refused = await http.post("/chats", json={"question": question})
                assert refused.status_code == 422
