"""The page of `tidegate run` in a real browser, on real replicas: it shows what a backend writes,
survives a replica, and can be used by phone and keyboard.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.cli.browser import Browser
from tests.cli.test_run import running
from tests.harness.backend import Backend
from tests.harness.fixtures import backend
from tests.harness.replica import Replica
from tests.servers import binaries
from tests.servers.ports import free_port
from tests.servers.standalone import Server

__all__ = ["backend"]

pytestmark = pytest.mark.real("chromium")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Browser]:
    """A page that has learnt where the replicas are; nothing may have been refused to it."""
    program = binaries.browser()
    assert program is not None
    async with Browser(program) as browser:
        await browser.open(url)
        await lights(browser, ["true", "true"])
        yield browser


@pytest.fixture
async def page(redis_server: Server) -> AsyncIterator[Browser]:
    """On two replicas in this process."""
    ports = [free_port(redis_server) for _ in range(2)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    server: dict[str, Any] = {"demo": True, "demo_replicas": urls}
    async with (
        Replica(
            redis_server.url, pod="one", server=server | {"port": ports[0]}, auth={"origins": urls}
        ),
        Replica(
            redis_server.url, pod="two", server=server | {"port": ports[1]}, auth={"origins": urls}
        ),
        opened(f"{urls[0]}/") as browser,
    ):
        yield browser
        assert browser.console == []


async def lights(browser: Browser, expected: list[str]) -> None:
    """Of the replicas: whether each is there."""
    await browser.until(
        "JSON.stringify([...document.querySelectorAll('.light')].map((light) => light.dataset.up))"
        f" === '{json.dumps(expected, separators=(',', ':'))}'"
    )


async def announce(backend: Backend, *operations: str) -> None:
    for operation in operations:
        data = {"operation": operation, "title": f"Title of {operation}"}
        message = json.dumps({"type": "operation_listed", "data": data})
        await backend.add("demo", {"message": message})


def card(operation: str, of: str) -> str:
    """JavaScript for something of an operation that runs; undefined while there is none."""
    return f"document.querySelector('.card[data-operation=\"{operation}\"]')?.{of}"


def row(operation: str, of: str) -> str:
    """Of one that has ended."""
    return f"document.querySelector('.row[data-operation=\"{operation}\"]')?.{of}"


def bar(operation: str, part: str) -> str:
    """What a part of an operation's bar says."""
    of = f"querySelector('tidegate-progress').shadowRoot.querySelector('[part={part}]')"
    return card(operation, of)


async def watch(browser: Browser, operation: str) -> None:
    """By the box."""
    await browser.evaluate(f"document.getElementById('watch-id').value = '{operation}'")
    await browser.evaluate("document.getElementById('watch').requestSubmit()")


async def ids(browser: Browser) -> list[str]:
    """Of the entries that the open panel shows as raw frames, oldest first."""
    found: list[str] = json.loads(
        await browser.evaluate(
            "JSON.stringify([...document.querySelectorAll('#panel-log [data-id]')]"
            ".map((line) => line.dataset.id).reverse())"
        )
    )
    return found


async def figures(browser: Browser) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        await browser.evaluate(
            "JSON.stringify(Object.fromEntries([...document.querySelectorAll('#figures div')]"
            ".map((one) => [one.children[0].textContent, one.children[1].textContent])))"
        )
    )
    return found


async def test_operations_are_cards_and_lines_when_they_have_ended(
    page: Browser, backend: Backend
) -> None:
    await announce(backend, "one", "two", "three")
    await backend.publish("one", status="running", progress=0.5, message="half way")
    await page.until(f"{bar('one', 'track')}.getAttribute('aria-valuenow') === '50'")
    assert await page.evaluate(bar("one", "title") + ".textContent") == "Title of one"
    assert await page.evaluate(bar("one", "message") + ".textContent") == "half way"
    assert await page.evaluate(card("one", "dataset.state")) == "running"
    assert await page.evaluate(card("two", "dataset.state")) == "waiting"

    await backend.publish("one", "operation_failed", error="the disk is full")
    await backend.finish("two")
    await page.until(f"{row('one', 'dataset.state')} === 'failed'")
    await page.until(f"{row('two', 'dataset.state')} === 'completed'")
    assert "the disk is full" in await page.evaluate(row("one", "textContent"))
    assert await page.evaluate(card("one", "dataset.state")) is None
    # Filtered by state, and by what is written.
    await page.evaluate("document.querySelector('#states [data-state=failed]').click()")
    await page.until(f"{row('two', 'hidden')} && {card('three', 'hidden')}")
    assert await page.evaluate(row("one", "hidden")) is False
    await page.evaluate("document.querySelector('#states [data-state=\"\"]').click()")
    await page.evaluate("document.getElementById('search').value = 'OF TWO'")
    await page.evaluate("document.getElementById('search').dispatchEvent(new Event('input'))")
    await page.until(f"{row('one', 'hidden')} && {card('three', 'hidden')}")
    assert await page.evaluate(row("two", "hidden")) is False
    assert await page.evaluate("document.getElementById('filtered').textContent") == (
        "1 operation shown"
    )


async def test_any_id_can_be_watched_before_it_begins(page: Browser, backend: Backend) -> None:
    await announce(backend, "other")
    await watch(page, "no such id!")
    assert "letters" in await page.evaluate("document.getElementById('watch-error').textContent")
    await watch(page, "hello")
    await page.until(f"{card('hello', 'dataset.state')} === 'waiting'")
    # It says how to publish to it.
    await page.evaluate(card("hello", "querySelector('.open').click()"))
    command = await page.evaluate("document.getElementById('panel-command').textContent")
    words = command.split()
    assert words[:3] == ["XADD", "operation-progress:hello", "*"]
    await backend.client.execute_command(*words)
    await page.until(f"{bar('hello', 'track')}.getAttribute('aria-valuenow') === '70'")
    # Loaded again, by its address as well, it is still there, and opened.
    assert await page.evaluate("location.hash") == "#hello"
    await page.evaluate("window.isOld = true; location.reload()")
    await page.until(
        f"!window.isOld && {bar('hello', 'track')}?.getAttribute('aria-valuenow') === '70'"
    )
    assert await page.evaluate("document.getElementById('panel').open")
    # One that is watched stays in front when it has ended, until it is taken away.
    await backend.finish("hello")
    await page.until(f"{card('hello', 'dataset.state')} === 'completed'")
    assert await page.evaluate("document.querySelector('.card').dataset.operation") == "hello"
    await page.evaluate(card("hello", "querySelector('.remove').click()"))
    await page.until(f"{card('hello', 'dataset')} === undefined")
    assert not await page.evaluate("document.getElementById('panel').open")


async def test_text_grows_and_the_log_is_readable_until_frames_are_asked_for(
    page: Browser, backend: Backend
) -> None:
    await watch(page, "answer")
    await page.evaluate(card("answer", "querySelector('.open').click()"))
    written = [
        await backend.publish("answer", "append", text=text)
        for text in ("The ti", "de <b>com", "es</b> in,\n", "and goes.")
    ]
    text = "The tide <b>comes</b> in,\nand goes."
    await page.until(f"document.getElementById('panel-text').textContent === {json.dumps(text)}")
    assert "and goes." in await page.evaluate(card("answer", "textContent"))
    log = "document.getElementById('panel-log').textContent"
    await page.until(f"{log}.includes('{len(text)} characters of text')")
    assert "{" not in await page.evaluate(log)
    await page.evaluate("document.getElementById('panel-raw').click()")
    # As many frames as there were moments at which the page was given some.
    shown = await ids(page)
    assert shown == [one for one in written if one in shown]
    assert shown[-1] == written[-1]
    assert '"data":{"text":"The ti' in await page.evaluate(log)


async def test_a_running_operation_can_be_stopped(page: Browser, backend: Backend) -> None:
    await announce(backend, "one")
    await backend.publish("one", status="running", progress=0.5)
    await page.until(f"{card('one', 'dataset.state')} === 'running'")
    await page.evaluate(card("one", "querySelector('.open').click()"))
    button = "document.getElementById('panel-stop')"
    await page.until(f"{button}.textContent === 'Stop' && !{button}.hidden")
    await page.evaluate(f"{button}.click()")
    await page.until(f"{button}.textContent === 'Stopping …' && {button}.disabled")
    asked = "document.getElementById('panel-log').textContent.includes('cancelling')"
    await page.until(asked)
    assert await backend.client.exists("{operation-progress:one}:cancel") == 1
    await backend.finish("one", "cancelled")
    await page.until(f"{button}.hidden")
    await page.until(f"{row('one', 'dataset.state')} === 'cancelled'")


async def test_cards_lines_and_frames_are_bounded(page: Browser, backend: Backend) -> None:
    names = [f"op-{n:03d}" for n in range(70)]
    for name in names[:60]:
        await backend.finish(name)
    await announce(backend, *names)
    newest = "document.querySelector('.card')?.dataset.operation"
    await page.until(f"{newest} === '{names[-1]}'")
    shown = "document.querySelectorAll('[data-operation]').length"
    await page.until(f"document.querySelectorAll('.card').length === 10 && {shown} === 48")
    await watch(page, "many")
    await page.evaluate(card("many", "querySelector('.open').click()"))
    written = await backend.publish_many("many", 800)
    await page.until("document.getElementById('panel-log').textContent.includes('{\"n\":799')")
    await page.evaluate("document.getElementById('panel-raw').click()")
    assert await ids(page) == written[-300:]
    # All of `many` and of those that are shown; how much of the others came before they went is
    # no matter.
    assert 838 <= int((await figures(page))["updates received"]) <= 860


async def test_on_a_phone_and_by_keyboard(page: Browser, backend: Backend) -> None:
    await page.size(375, 812)
    await announce(backend, "one", "a-very-long-operation-id." * 4)
    await backend.publish("one", progress=0.1, message="word" * 60)
    await page.until(f"{bar('one', 'message')}?.textContent.startsWith('word')")
    too_wide = "document.documentElement.scrollWidth > 375"
    assert not await page.evaluate(too_wide)
    # All that can be pressed has a name, and what is pressed on a phone is large enough.
    assert not await page.evaluate(
        "[...document.querySelectorAll('main button, header button')].filter((one) => "
        "!(one.ariaLabel || one.textContent.trim())).length"
    )
    await page.evaluate(card("one", "querySelector('.open').focus()"))
    await page.press("Enter")
    await page.until("document.getElementById('panel').matches(':modal')")
    assert not await page.evaluate(too_wide)
    await page.press("Escape")
    await page.until("!document.getElementById('panel').open")
    assert await page.evaluate(
        "document.activeElement === " + card("one", "querySelector('.open')")
    )
    await page.press("/")
    assert await page.evaluate("document.activeElement.id") == "search"


@pytest.mark.real("valkey9")
async def test_the_page_of_run_loses_nothing_with_a_replica_and_starts_operations(
    tmp_path: Path,
) -> None:
    async with (
        running(tmp_path, "--restart-after", "1") as run,
        opened(f"{run.urls[0]}/") as browser,
        redis.asyncio.Redis.from_url(run.redis_url) as client,
    ):
        backend = Backend(client)
        names = ["a", "b", "c", "d"]
        written: dict[str, list[str]] = {}
        for name in names:
            await watch(browser, name)
            written[name] = await backend.publish_many(name, 20)
        for name in names:
            await browser.until(card(name, "dataset.state") + " === 'running'")
        served = "[...document.querySelectorAll('.card.pinned .served')]"
        on = f"{served}.filter((one) => one.textContent === 'replica %d').length"
        assert await browser.evaluate(on % 2) == 2

        os.kill(run.replica_pids[1], signal.SIGKILL)
        for name in names:
            written[name] += await backend.publish_many(name, 20, start=20)
        await browser.until(f"{on % 1} === 4")
        # The light comes back by itself, and what is watched then is on that replica again.
        await browser.until("document.querySelectorAll('.light[data-up=true]').length === 2")
        toasts = "document.getElementById('toasts').textContent"
        await browser.until(f"{toasts}.includes('online again')")
        # The page takes replicas in turn, those whose light is on at that moment.
        for name in "efghij":
            await watch(browser, name)
            written[name] = await backend.publish_many(name, 5)
            await browser.until(card(name, "querySelector('.served').textContent"))
            if await browser.evaluate(on % 2):
                break
        assert await browser.evaluate(on % 2) == 1
        await browser.evaluate("document.getElementById('panel-raw').click()")
        for name, expected in written.items():
            await browser.evaluate(card(name, "querySelector('.open').click()"))
            await browser.until(
                f"document.getElementById('panel-log').textContent.includes('{expected[-1]}')"
            )
            assert await ids(browser) == expected, name
        shown = await figures(browser)
        assert shown["duplicate or out of order"] == shown["gaps"] == "0"
        assert int(shown["reconnects"]) >= 1

        await browser.evaluate("document.getElementById('publish').click()")
        await browser.evaluate("document.querySelector('#sheet [value=rows]').click()")
        await browser.evaluate("document.querySelector('#sheet [name=seconds]:checked').value = 3")
        await browser.evaluate("document.getElementById('sheet-form').requestSubmit()")
        mine = "document.querySelector('.card:not(.pinned):focus-within')"
        await browser.until(f"{mine}?.dataset.state === 'running'")
        name = await browser.evaluate(f"{mine}.dataset.operation")
        await browser.until(row(name, "dataset.state") + " === 'completed'")
        assert "rows copied" in await browser.evaluate(row(name, "textContent"))
        # A browser tells of each connection that nobody takes; nothing else may be in its console.
        assert [line for line in browser.console if "ERR_CONNECTION" not in line] == []
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()
