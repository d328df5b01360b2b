"""The example with its one command: two workers, viewers that leave and come back, a browser."""

from __future__ import annotations

import httpx
import pytest

from examples.fastapi_embed.app import CHAPTERS
from tests.cli.browser import Browser
from tests.examples.example import chromium, started
from tests.harness.viewer import Viewer

pytestmark = [pytest.mark.full, pytest.mark.real("valkey9", "chromium"), pytest.mark.timeout(240)]


async def test_a_viewer_who_comes_back_a_stranger_and_a_page() -> None:
    async with started("fastapi_embed") as example:
        # The line of each worker, and that of their parent.
        page, *_ = await example.until(r"^open (\S+);", "(?s)startup complete.*startup complete")
        await a_report_is_received_once_by_a_viewer_who_comes_back(page)
        await the_page_shows_it(page)


async def a_report_is_received_once_by_a_viewer_who_comes_back(page: str) -> None:
    sockets = page.replace("http", "ws") + "ws/operations/"
    async with httpx.AsyncClient(base_url=page, trust_env=False) as http:
        report = (await http.post("/reports")).json()["operation"]
        assert (await http.post("/reports?user=..%2F")).status_code == 422
    async with Viewer(sockets + report) as viewer:
        while viewer.frames[-1:] == [] or viewer.frames[-1]["data"].get("current") != 3:
            await viewer.next()
    seen = viewer.frames[1:]
    async with Viewer(f"{sockets}{report}?last_event_id={seen[-1]['id']}") as viewer:
        (state, *rest), close = await viewer.rest()
    assert state["type"] == "current_state"
    assert close.code == 1000
    entries = seen + rest
    assert [one["type"] for one in entries] == [
        "operation_started",
        *["progress"] * CHAPTERS,
        "operation_completed",
    ]
    assert [one["data"]["current"] for one in entries[1:-1]] == list(range(1, CHAPTERS + 1))
    async with Viewer(f"{sockets}{report}?user=bob") as stranger:
        assert (await stranger.closed()).code == 4403


async def the_page_shows_it(page: str) -> None:
    async with Browser(chromium()) as browser:
        await browser.open(page)
        await browser.evaluate("document.getElementById('begin').click()")
        shown = f"document.getElementById('status').textContent === '{CHAPTERS} chapters'"
        await browser.until(shown)
        assert await browser.evaluate("document.getElementById('bar').position") == 1
