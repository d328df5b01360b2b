"""The console of the admin port: files with nothing in them, and a browser that uses it."""

from __future__ import annotations

import pytest

from tests.cli.browser import Browser
from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers import binaries
from tests.servers.standalone import Server

TOKEN = "an admin token of some length"


def admin_of(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.admin_port}"


async def test_the_page_is_files_and_what_it_shows_needs_the_token(redis_server: Server) -> None:
    async with (
        Replica(redis_server.url, server={"admin_token": TOKEN, "pod": "secret-name"}) as replica,
        plain_client(admin_of(replica)) as client,
    ):
        page = await client.get("/")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        for said in (
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "form-action 'none'",
        ):
            assert f"{said};" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "secret-name" not in page.text
        assert "://" not in page.text
        for name, media_type in (("console.js", "text/javascript"), ("base.css", "text/css")):
            file = await client.get(f"/console/{name}")
            assert file.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert (await client.get("/console/app.py")).status_code == 404
        assert (await client.get("/debug/state")).status_code == 401
        # The viewers' port has none.
        viewers = f"http://127.0.0.1:{replica.settings.server.port}"
        assert (await client.get(f"{viewers}/console/console.js")).status_code == 404


@pytest.mark.real("chromium")
async def test_a_browser_looks_inside_and_disconnects(
    redis_server: Server, backend: Backend
) -> None:
    program = binaries.browser()
    assert program is not None
    await backend.publish("hello", progress=0.5)
    async with (
        Replica(redis_server.url, server={"admin_token": TOKEN}) as replica,
        Browser(program) as browser,
        replica.watch("hello") as viewer,
    ):
        await viewer.state()
        await browser.open(f"{admin_of(replica)}/")
        await browser.until("document.getElementById('sign-in').checkVisibility()")
        assert await browser.evaluate("document.getElementById('rows').childElementCount") == 0
        for token in ("wrong", TOKEN):
            await browser.evaluate(f"document.getElementById('token').value = '{token}'")
            await browser.evaluate("document.getElementById('sign-in-form').requestSubmit()")
            said = "document.getElementById('sign-in-error').textContent"
            shown = "document.getElementById('inside').checkVisibility()"
            await browser.until(f"{said}.includes('not the admin token') || {shown}")
            assert await browser.evaluate(shown) is (token == TOKEN)
        tiles = "document.getElementById('tiles').innerText"
        await browser.until(f"{tiles}.includes('Viewers live')")
        row = "document.querySelector('#rows tr')"
        await browser.until(f"{row}?.children[0].textContent === 'hello'")
        assert await browser.evaluate(f"{row}.children[2].textContent") == "1"

        await browser.evaluate(f"{row}.querySelector('button').click()")
        parts = "document.getElementById('panel-parts').textContent"
        await browser.until(f"{parts}.includes('Dispatched by' + 'this replica')")
        await browser.evaluate("document.getElementById('panel-disconnect').click()")
        # Nothing is done before it is confirmed.
        assert replica.viewers == 1
        await browser.evaluate("document.getElementById('sheet-form').requestSubmit()")
        _, close = await viewer.rest()
        assert close.code == 4403
        await browser.until("document.getElementById('toasts').textContent.includes('1 replica')")
        refused = [line for line in browser.console if "401 (Unauthorized)" not in line]
        assert refused == []
