"""The demo page in a real browser: it follows operations, and it survives its replica."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.cli.browser import Browser
from tests.cli.fake_gateway import FakeGateway, Refusal
from tests.harness.waiting import until
from tests.servers import binaries
from tidegate.model.settings import Settings
from tidegate.web.demo import demo_routes

pytestmark = pytest.mark.real("chromium")


async def fetch(settings: Settings, path: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(demo_routes(settings))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get(path)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    """Two replicas that serve the page as the real gateway does, security headers included."""
    async with FakeGateway(replicas=2) as gateway:
        urls = [url.replace("ws:", "http:") for url in gateway.urls]
        settings = Settings.model_validate({"server": {"demo": True, "demo_replicas": urls}})
        for path in ("/", "/demo.json"):
            response = await fetch(settings, path)
            assert response.status_code == 200
            headers = {k: v for k, v in response.headers.items() if k != "content-length"}
            gateway.pages[path] = (headers, response.text)
        yield gateway


@pytest.fixture
async def browser(gateway: FakeGateway) -> AsyncIterator[Browser]:
    program = binaries.browser()
    assert program is not None
    async with Browser(program) as browser:
        await browser.open(gateway.urls[0].replace("ws:", "http:") + "/")
        yield browser


async def announce(gateway: FakeGateway, *operations: str) -> None:
    for operation in operations:
        data = {"operation": operation, "title": f"Title of {operation}"}
        await gateway.append("demo", "operation_listed", data)


async def cards(browser: Browser) -> list[str]:
    return list(
        json.loads(
            await browser.evaluate(
                "JSON.stringify([...document.querySelectorAll('.operation code')]"
                ".map((code) => code.textContent))"
            )
        )
    )


async def figures(browser: Browser) -> dict[str, str]:
    text = await browser.evaluate(
        "JSON.stringify(Object.fromEntries([...document.querySelectorAll('#figures li')]"
        ".map((li) => [li.children[1].textContent, li.children[0].textContent])))"
    )
    result: dict[str, str] = json.loads(text)
    return result


def card(operation: str, of: str) -> str:
    """JavaScript for something of an operation's card; undefined while there is none."""
    return (
        "[...document.querySelectorAll('.operation')]"
        f".find((li) => li.textContent.includes('{operation}'))?.{of}"
    )


async def test_bars_status_and_end(gateway: FakeGateway, browser: Browser) -> None:
    await announce(gateway, "one", "two")
    await gateway.append("one", "progress", {"status": "running", "progress": 0.5})
    bar = "querySelector('[role=progressbar]')"
    await browser.until(f"{card('one', bar)}?.getAttribute('aria-valuenow') === '50'")
    label = await browser.evaluate(f"{card('one', bar)}.getAttribute('aria-label')")
    assert label == "Title of one, one"

    await gateway.append("one", "operation_failed", {"error": "the disk is full"})
    await gateway.append("two", "operation_completed", {"progress": 1})
    await browser.until(f"{card('one', 'className')}?.includes('failed')")
    await browser.until(f"{card('two', 'className')}?.includes('completed')")
    assert "the disk is full" in await browser.evaluate(card("one", "textContent"))
    await browser.until(f"{card('one', 'textContent')}.includes('was on')")
    assert browser.console == []


async def test_it_survives_the_death_of_a_replica(gateway: FakeGateway, browser: Browser) -> None:
    names = ["a1", "a2", "a3", "a4"]
    await announce(gateway, *names)
    for name in names:
        await gateway.append(name, "progress", {"progress": 0.1})
    for name in names:
        await browser.until(f"{card(name, 'textContent')}?.includes('10 %')")
    here, there = (url.removeprefix("ws://") for url in gateway.urls)
    before = await figures(browser)
    assert before[here] == "3 sockets"  # the index and two operations
    assert before[there] == "2 sockets"

    await gateway.replicas[1].die()
    for name in names:
        await gateway.append(name, "progress", {"progress": 0.2})
    for name in names:
        await browser.until(f"{card(name, 'textContent')}.includes('20 %')")
    after = await figures(browser)
    assert after[here] == "5 sockets"
    assert after[there] == "no socket"
    assert after["reconnects"] == "2"
    assert after["entries received"] == "8"
    assert after["twice or out of order"] == "0"
    # Each of the two that moved asked for what comes after its last entry.
    resumed = [path for path in gateway.replicas[0].asked if "last_event_id" in path]
    assert len(resumed) == 2
    moved = [
        n for n in names if f"before {there}" in await browser.evaluate(card(n, "textContent"))
    ]
    assert len(moved) == 2


async def test_the_page_moves_when_the_replica_that_served_it_dies(
    gateway: FakeGateway, browser: Browser
) -> None:
    await announce(gateway, "one")
    await browser.until(card("one", "textContent"))
    await gateway.replicas[0].die()
    await announce(gateway, "two")
    await browser.until(card("two", "textContent"))
    there = gateway.urls[1].removeprefix("ws://")
    await browser.until(f"document.getElementById('index-state').textContent.includes('{there}')")


async def test_close_codes_are_obeyed(gateway: FakeGateway, browser: Browser) -> None:
    await browser.until("document.getElementById('index-state').textContent.includes('listening')")
    # The first card goes to the second of the replicas.
    reconnect = {"type": "reconnect", "data": {"after_ms": 10, "reason": "draining"}}
    gateway.replicas[0].refusals.append(Refusal(4403))
    gateway.replicas[1].refusals.append(Refusal(1012, frames=(reconnect,)))
    await announce(gateway, "one")
    await browser.until(f"{card('one', 'textContent')}?.includes('refused')")
    figure = await figures(browser)
    assert figure["reconnects"] in ("0", "1")
    asked = [p for r in gateway.replicas for p in r.asked if "one" in p]
    assert len(asked) == 1 + int(figure["reconnects"])


async def test_cards_sockets_and_frames_are_bounded(gateway: FakeGateway, browser: Browser) -> None:
    names = [f"op-{n:02d}" for n in range(40)]
    await announce(gateway, *names)
    await browser.until(card(names[-1], "textContent"))
    assert sorted(await cards(browser)) == names[-14:]
    # The state of one that connects late would come in front of the last entry.
    await browser.until("[...cards.values()].every((card) => card.follower.state === 'open')")
    for n in range(300):
        await gateway.append(names[-1], "progress", {"progress": n / 300})
    last = gateway.logs[names[-1]][-1]["id"]
    await browser.until(f"document.getElementById('frames').textContent.includes('{last}')")
    assert await browser.evaluate("document.getElementById('frames').childElementCount") == 200
    first = await browser.evaluate("document.getElementById('frames').firstChild.textContent")
    assert last in first
    # The page has told those of the cards that are gone to close.
    await until(lambda: sum(len(replica.sockets) for replica in gateway.replicas) == 15)


async def test_finished_operations_make_room_first(gateway: FakeGateway, browser: Browser) -> None:
    await announce(gateway, "long")
    await browser.until(card("long", "textContent"))
    for n in range(20):
        name = f"short-{n:02d}"
        await gateway.append(name, "operation_completed", {"status": "completed"})
        await announce(gateway, name)
        await browser.until(f"{card(name, 'className')}?.includes('completed')")
    assert "long" in await cards(browser)


async def test_pause_keeps_the_list_still(gateway: FakeGateway, browser: Browser) -> None:
    await announce(gateway, "one")
    text = "document.getElementById('frames').textContent"
    await browser.until(f"""{text}.includes('current_state", "operation": "one"')""")
    await browser.evaluate("document.getElementById('pause').click()")
    count = await browser.evaluate("document.getElementById('frames').childElementCount")
    await gateway.append("one", "progress", {"progress": 0.3})
    await browser.until("document.getElementById('held').textContent === '1 not shown'")
    assert await browser.evaluate("document.getElementById('frames').childElementCount") == count
    await browser.evaluate("document.getElementById('pause').click()")
    await gateway.append("one", "progress", {"progress": 0.4})
    await browser.until("document.getElementById('frames').textContent.includes('0.4')")


async def test_the_description_of_the_demo() -> None:
    tree: dict[str, Any] = {"server": {"pod": "p", "demo_replicas": ["http://h:1"]}}
    shown = (await fetch(Settings.model_validate(tree), "/demo.json")).json()
    assert shown["pod"] == "p"
    assert shown["replicas"] == ["http://h:1"]
    assert shown["index"] == "demo"
    assert shown["come_back"]["1012"] == "yes"
