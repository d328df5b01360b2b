"""The packed browser client behind an nginx that lets less and less through, in a real Chromium.

The ways are tried from the best to the last, and back: WebSocket, event stream, long poll.
"""

from __future__ import annotations

import pytest

from tests.cli.browser import Browser
from tests.clients.package import PageServer
from tests.clients.scene import base, for_pages, publishing, watch
from tests.clients.verdict import all_came, grows
from tests.harness.backend import Backend
from tests.servers.nginx import Nginx, Sockets, Streams
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.real("chromium", "node", "nginx"),
    pytest.mark.full,
    pytest.mark.xdist_group("js"),
    pytest.mark.timeout(240),
]

OPERATIONS = ["a", "b"]
LAST_REQUEST = "(page.requests().at(-1) ?? '')"


async def test_down_to_long_polls_and_back_up(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with (
        for_pages(redis_server, pages) as replica,
        Nginx(replica.settings.server.port) as nginx,
    ):
        async with publishing(backend, OPERATIONS) as publishers:
            await watch(browser, [base(nginx)], OPERATIONS)
            await grows(browser, "a")
            assert await browser.evaluate("page.requests()") == []

            await nginx.reload(Sockets.DROPPED)
            await browser.until(f"{LAST_REQUEST}.includes('/sse/')")
            await grows(browser, "a")
            await grows(browser, "b")
            assert await browser.evaluate("page.requests().every((url) => url.includes('/sse/'))")

            await nginx.reload(Sockets.DROPPED, Streams.REFUSED)
            await browser.until(f"{LAST_REQUEST}.includes('/events?')")
            await grows(browser, "a")
            await grows(browser, "b")
            tried = await browser.evaluate("page.sockets().length")

            await nginx.reload()
            # By itself: a socket is tried now and then.
            await browser.until(f"page.sockets().length > {tried}")
            await browser.until("page.sockets().at(-1).sent.some((s) => s.includes('watch'))")
            polls = await browser.evaluate("page.requests().length")
            await grows(browser, "a", by=20)
            await grows(browser, "b")
            assert await browser.evaluate("page.requests().length") == polls
        await all_came(browser, publishers.values())


async def test_event_streams_are_held_back(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with (
        for_pages(redis_server, pages) as replica,
        Nginx(replica.settings.server.port, Sockets.DROPPED, Streams.HELD_BACK) as nginx,
    ):
        async with publishing(backend, OPERATIONS) as publishers:
            await watch(browser, [base(nginx)], OPERATIONS)
            await grows(browser, "a")
            assert await browser.evaluate(f"{LAST_REQUEST}.includes('/events?')")
            await grows(browser, "b")
        await all_came(browser, publishers.values())
