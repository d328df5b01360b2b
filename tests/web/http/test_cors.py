"""Pages of another origin: what a listed one may read and send, and that nobody else may.

With plain requests for the headers, and with a real browser for what they come to.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.browser import Browser
from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers import binaries
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token
from tests.web.sse.test_sse import EventReader
from tidegate.web.auth.origin import OriginRules, origin_allowed

LISTED = "https://app.example.com"
OTHERS = (
    "https://evil.example",
    "https://app.example.com.evil.example",
    "https://app.example.com:8443",
    "http://app.example.com",
    "https://x.app.example.com",
    "https://*.pages.example.com",
    "https://app.example.com/",
    "https://app.example.com\u00e9",
    "null",
    "*",
    "",
)
SERVICE = "s" * 32
PATHS = ("/operations/42", "/operations/42/events", "/sse/operations/42", "/nothing/here")


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    origins = [LISTED, "https://*.pages.example.com"]
    async with Replica(
        redis_server.url, auth={"origins": origins}, publish={"token": SERVICE}
    ) as replica:
        yield replica


def base_url(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


@asynccontextmanager
async def answer(replica: Replica, method: str, path: str, **headers: str) -> Any:
    """The head of an answer; an event stream has no end."""
    names = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    async with (
        plain_client(base_url(replica)) as client,
        client.stream(method, path, headers=names) as response,
    ):
        yield response


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in response.headers.items() if k.startswith("access-control-")}


async def test_a_listed_origin_is_echoed_with_every_answer(
    replica: Replica, backend: Backend
) -> None:
    await backend.publish("42")
    for path, origin in itertools.product(PATHS, (LISTED, "https://a.b.pages.example.com")):
        async with answer(replica, "GET", path, Origin=origin) as response:
            assert response.headers["access-control-allow-origin"] == origin, path
            assert response.headers["access-control-allow-credentials"] == "true", path
            exposed = response.headers["access-control-expose-headers"].split(", ")
            assert {"ETag", "Retry-After"} <= set(exposed), path
            assert "origin" in response.headers["vary"].split(", "), path


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_no_other_origin_is_told_anything(
    replica: Replica, backend: Backend, method: str
) -> None:
    await backend.publish("42")
    asks = {"Access_Control_Request_Method": "GET"} if method == "OPTIONS" else {}
    for path, origin in itertools.product(PATHS, OTHERS):
        async with answer(replica, method, path, Origin=origin, **asks) as response:
            assert cors_headers(response) == {}, (path, origin)
            assert response.status_code in (403, 404), (path, origin)
            assert "origin" in response.headers["vary"].split(", "), (path, origin)


async def test_who_names_two_origins_has_none(replica: Replica) -> None:
    headers = [("Origin", LISTED), ("Origin", "https://evil.example")]
    async with plain_client(base_url(replica)) as client:
        for method in ("GET", "OPTIONS"):
            asks = [("Access-Control-Request-Method", "GET")] if method == "OPTIONS" else []
            response = await client.request(method, "/operations/42", headers=headers + asks)
            assert response.status_code == 403
            assert cors_headers(response) == {}


async def test_a_preflight_names_what_may_be_sent(replica: Replica) -> None:
    asks = {"Access_Control_Request_Method": "POST"}
    for path in PATHS:
        async with answer(replica, "OPTIONS", path, Origin=LISTED, **asks) as response:
            assert response.status_code == 204, path
            assert response.headers["access-control-allow-origin"] == LISTED
            assert {"GET", "POST", "DELETE"} <= set(
                response.headers["access-control-allow-methods"].split(", ")
            )
            assert {
                "Authorization",
                "Cache-Control",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
                "If-None-Match",
                "traceparent",
                "tracestate",
            } == set(response.headers["access-control-allow-headers"].split(", "))
            assert int(response.headers["access-control-max-age"]) > 0
            assert await response.aread() == b"", path


async def test_options_that_are_no_preflight_are_answered_as_ever(replica: Replica) -> None:
    async with answer(replica, "OPTIONS", "/operations/42", Origin=LISTED) as response:
        assert response.status_code == 405


async def test_without_a_list_nobody_is_told_anything(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    async with Replica(redis_server.url) as replica:
        own = base_url(replica)
        for origin in (own, LISTED):
            async with answer(replica, "GET", "/operations/42", Origin=origin) as response:
                assert response.status_code == (200 if origin == own else 403)
                assert cors_headers(response) == {}
                assert "origin" not in response.headers.get("vary", "")


@given(st.lists(st.sampled_from([LISTED, "http://*.a.b", "http://a.b:81"]), min_size=1), st.text())
def test_pages_and_sockets_go_by_the_same_rules(allowed: list[str], text: str) -> None:
    for origin in (text, f"http://{text}", f"https://{text}.a.b", *allowed):
        same = origin_allowed(origin, "host", allowed, has_token=True)
        assert OriginRules(allowed).cover(origin) is same


# --- in a browser


class Pages:
    """A server of one empty page, on an origin of its own."""

    async def __aenter__(self) -> Pages:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<!doctype html><link rel=icon href='data:,'><title>a page</title>"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()


async def run(browser: Browser, script: str) -> Any:
    """What an async function of the page returns."""
    await browser.evaluate(
        "window.result = undefined;"
        f"(async () => {{ {script} }})().then(r => window.result = {{ok: r ?? null}},"
        " e => window.result = {error: String(e)}); 0"
    )
    text = await browser.until("window.result && JSON.stringify(window.result)")
    return json.loads(text)


@pytest.mark.real("chromium")
async def test_a_page_elsewhere_watches_reads_and_publishes(
    redis_server: Server, backend: Backend
) -> None:
    program = binaries.browser()
    assert program is not None
    first = await backend.publish("42", progress=0.1)
    async with Pages() as pages, Pages() as strangers, Browser(program) as browser:
        auth = {"secret": "a secret of 32 bytes, or more.....", "leeway_s": 0, "cookie": "session"}
        async with guarded(
            redis_server, auth={**auth, "origins": [pages.origin]}, publish={"token": SERVICE}
        ) as replica:
            here = base_url(replica)
            watching = f"""
                document.cookie = "session={token("u")}; path=/";
                window.frames_ = [];
                window.source = new EventSource("{here}/sse/operations/42",
                    {{withCredentials: true}});
                source.onmessage = m => frames_.push(JSON.parse(m.data));
            """
            reading = f"""
                const headers = {{Authorization: "Bearer {token("u")}"}};
                const one = await fetch("{here}/operations/42", {{headers}});
                const tag = one.headers.get("etag");
                const again = await fetch("{here}/operations/42",
                    {{headers: {{...headers, "If-None-Match": tag}}, cache: "no-store"}});
                const page = await fetch("{here}/operations/42/events", {{headers}});
                return [one.status, tag, again.status, (await page.json()).events.length];
            """
            publishing = f"""
                const answer = await fetch("{here}/operations/42/events", {{
                    method: "POST", body: JSON.stringify({{type: "log", data: {{}}}}),
                    headers: {{Authorization: "Bearer {SERVICE}", "Idempotency-Key": "k",
                        "Content-Type": "application/json"}}}});
                return (await answer.json()).ids[0];
            """
            await browser.open(pages.origin + "/")
            await run(browser, watching)
            await browser.until(f"frames_.some(f => f.id === '{first}')")
            status, tag, again, events = (await run(browser, reading))["ok"]
            assert (status, again, events) == (200, 304, 1)
            assert tag.startswith('"')
            published = (await run(browser, publishing))["ok"]
            await browser.until(f"frames_.some(f => f.id === '{published}')")

            await browser.open(strangers.origin + "/")
            await run(browser, watching)
            await browser.until("source.readyState === EventSource.CLOSED")
            assert await browser.evaluate("frames_.length") == 0
            for script in (reading, publishing):
                assert "Failed to fetch" in (await run(browser, script))["error"]
            entries: Any = await backend.client.xlen("operation-progress:42")
            assert entries == 2  # the preflight kept the stranger's from being sent


async def test_an_event_stream_elsewhere_is_the_same_stream(
    replica: Replica, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 3)
    async with answer(replica, "GET", "/sse/operations/42", Origin=LISTED) as response:
        events = EventReader(response)
        assert (await events.frame())["type"] == "current_state"
        assert await events.ids(3) == ids
