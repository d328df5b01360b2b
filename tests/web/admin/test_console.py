"""The console of the admin port: files with nothing in them, and a browser that uses it."""

from __future__ import annotations

import pytest

from tests.cli.browser import Browser
from tests.harness.backend import Backend
from tests.harness.names import NAMES
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers import binaries
from tests.servers.standalone import Server
from tests.web.access.test_admission import ADMIN_TOKEN, guarded, token, watch

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


def text_of(element: str) -> str:
    return f"document.getElementById('{element}').textContent"


def cell(table: str, name: str, column: int) -> str:
    """JavaScript for a cell of the row with this name; undefined while there is none."""
    return (
        f"[...document.querySelectorAll('#{table} tr')]"
        f".find((row) => row.firstElementChild.textContent === '{name}')"
        f"?.children[{column}].textContent"
    )


async def authenticate(browser: Browser, replica: Replica, token: str) -> None:
    await browser.open(f"{admin_of(replica)}/")
    await browser.until("document.getElementById('sign-in').checkVisibility()")
    await browser.evaluate(f"document.getElementById('token').value = '{token}'")
    await browser.evaluate("document.getElementById('sign-in-form').requestSubmit()")


@pytest.mark.real("chromium")
async def test_a_browser_sees_both_replicas_and_disconnects(
    redis_server: Server, backend: Backend
) -> None:
    program = binaries.browser()
    assert program is not None
    await backend.publish("hello", progress=0.5)
    server = {"admin_token": TOKEN}
    async with (
        Replica(redis_server.url, pod="one", server=server) as replica,
        Replica(redis_server.url, pod="two", server=server) as other,
        Browser(program) as browser,
        replica.watch("hello") as viewer,
        other.watch("hello") as another,
    ):
        for one in (viewer, another):
            await one.state()
        await authenticate(browser, replica, "wrong")
        await browser.until(f"{text_of('sign-in-error')}.includes('not the admin token')")
        assert await browser.evaluate(text_of("replica-rows")) == ""
        await authenticate(browser, replica, TOKEN)
        await browser.until("document.getElementById('inside').checkVisibility()")
        await browser.until(f"{cell('replica-rows', 'two', 2)} === '1'")
        assert await browser.evaluate(cell("replica-rows", "one (this one)", 1)) == "Ready"
        await browser.until(f"{cell('operation-rows', 'hello', 2)} === '2'")

        await browser.evaluate("document.querySelector('#operation-rows button').click()")
        parts = text_of("panel-parts")
        await browser.until(f"{parts}.includes('Followed by2 of 2 replicas')")
        await browser.until(f"{parts}.includes('Newest entries (1)')")
        await browser.evaluate("document.getElementById('panel-disconnect').click()")
        # Nothing is done before it is confirmed.
        assert (replica.viewers, other.viewers) == (1, 1)
        await browser.evaluate("document.getElementById('sheet-form').requestSubmit()")
        for one in (viewer, another):
            _, close = await one.rest()
            assert close.code == 4403
        await browser.until(f"{text_of('toasts')}.includes('2 replicas')")
        refused = [line for line in browser.console if "401 (Unauthorized)" not in line]
        assert refused == []


@pytest.mark.full
@pytest.mark.real("chromium")
async def test_users_are_found_looked_up_and_revoked(redis_server: Server) -> None:
    program = binaries.browser()
    assert program is not None
    ann = "https://id.example/ann"
    async with (
        guarded(redis_server, pod="one") as one,
        guarded(redis_server, pod="two") as two,
        Browser(program) as browser,
        watch(one, "42", token(ann)) as first,
        watch(two, "42", token(ann)) as second,
        watch(two, "42", token("bob")) as third,
    ):
        for viewer in (first, second, third):
            await viewer.state()
        await authenticate(browser, one, ADMIN_TOKEN)
        await browser.until(f"{cell('user-rows', ann, 1)} === '2 of 10'")
        await browser.evaluate("document.getElementById('user-search').value = 'BO'")
        await browser.evaluate(
            "document.getElementById('user-search').dispatchEvent(new Event('input'))"
        )
        await browser.until(f"{cell('user-rows', ann, 1)} === undefined")
        assert await browser.evaluate(cell("user-rows", "bob", 1)) == "1 of 10"

        await browser.evaluate(f"document.getElementById('user-search').value = '{ann}'")
        await browser.evaluate("document.getElementById('find-user').requestSubmit()")
        await browser.until(f"{text_of('panel-parts')}.includes('In use2 of 10')")
        await browser.evaluate("document.getElementById('panel-revoke').click()")
        await browser.evaluate("document.getElementById('sheet-form').requestSubmit()")
        for viewer in (first, second):
            _, close = await viewer.rest()
            assert close.code == 4401
        assert two.viewers == 1


@pytest.mark.full
@pytest.mark.real("chromium")
async def test_names_are_text_and_the_page_fits_phones_keys_and_readers(
    redis_server: Server, backend: Backend
) -> None:
    program = binaries.browser()
    assert program is not None
    image = "<img src=x onerror=document.title=1>"
    await backend.publish("42", status=image, message=image)
    async with (
        Replica(redis_server.url) as replica,
        Browser(program) as browser,
        replica.watch("42") as viewer,
        redis_server.client() as client,
    ):
        await viewer.state()
        until_ms = 1_000 * ((await client.time())[0] + 60)
        await client.zadd(NAMES.pods, {f"{image}.2.abc": until_ms})
        await browser.open(f"{admin_of(replica)}/")
        await browser.until(f"{text_of('operation-rows')}.includes('onerror')")
        await browser.until(f"{text_of('replica-rows')}.includes('No response')")
        # By the keyboard: the name is a button, Escape closes what it opened.
        await browser.evaluate("document.querySelector('#operation-rows button').focus()")
        await browser.press("Enter")
        await browser.until(f"{text_of('panel-parts')}.includes('onerror')")
        await browser.press("Escape")
        await browser.until("!document.getElementById('panel').open")
        assert await browser.evaluate("document.title") == "Tidegate console"
        assert await browser.evaluate("document.querySelectorAll('main img').length") == 0

        for width in (375, 768, 1440):
            await browser.size(width, 900)
            await browser.until(f"innerWidth <= {width}")
            assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        unnamed = await browser.evaluate(
            "[...document.querySelectorAll('button, input, [role=region], dialog')].filter((one) =>"
            " !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length"
            " || one.getAttribute('aria-labelledby'))).length"
        )
        assert unnamed == 0
        sort = "document.querySelector('[data-order=viewers]').getAttribute('aria-sort')"
        assert await browser.evaluate(sort) == "descending"
        assert browser.console == []
