"""The packed browser client in a real Chromium against real gateways, while both are hurt.

What is proved each time: of what a backend wrote, the page got each entry once and in order, or was
told of a gap; and the client got there by the way it should.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest

from tests.cli.browser import Browser
from tests.clients.package import PageServer
from tests.faults.replicas import Replica as Process
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.real("chromium", "node"),
    pytest.mark.full,
    pytest.mark.xdist_group("js"),
    pytest.mark.timeout(240),
]

SECRET = "k" * 32
PAUSE_S = 0.02


def for_pages(redis: Server, pages: PageServer, *, linger_s: float = 5) -> Replica:
    """A replica that the test's pages may connect to."""
    return Replica(redis.url, auth={"origins": [pages.origin]}, topic={"linger_s": linger_s})


def in_front_of(replica: Replica) -> Proxy:
    return Proxy(("127.0.0.1", replica.settings.server.port))


def base(place: Replica | Proxy) -> str:
    port = place.port if isinstance(place, Proxy) else place.settings.server.port
    return f"http://127.0.0.1:{port}"


async def watch(
    browser: Browser, urls: list[str], operations: list[str], *, token: str = "", **options: Any
) -> None:
    given = json.dumps({"url": urls, **options})
    await browser.evaluate(f"page.start({given}, {json.dumps(operations)}, {json.dumps(token)})")


async def state(browser: Browser, operation: str) -> dict[str, Any]:
    found: dict[str, Any] = await browser.evaluate(f"page.state({operation!r})")
    return found


async def all_ended(browser: Browser) -> None:
    await browser.until("page.are('ended')")


async def all_came(browser: Browser, written: dict[str, list[str]]) -> None:
    """All have ended, and of each the page has each entry once, in order, and no gap."""
    await all_ended(browser)
    for operation, ids in written.items():
        assert await browser.evaluate(f"page.ids({operation!r})") == ids, operation
        assert (await state(browser, operation))["gaps"] == 0


@asynccontextmanager
async def publishing(
    backend: Backend, operations: list[str]
) -> AsyncIterator[dict[str, list[str]]]:
    """Entries of all operations, one after another, until the block ends; then their ends."""
    written: dict[str, list[str]] = {operation: [] for operation in operations}
    over = False

    async def write() -> None:
        n = 0
        while not over:
            for operation in operations:
                written[operation].append(await backend.publish(operation, "log", n=n))
            n += 1
            await asyncio.sleep(PAUSE_S)

    # It is not cancelled: redis-py can lose a cancellation (see `redis.batches.end_if_cancelled`),
    # and an entry whose id did not come back would be on the page and not in `written`.
    writing = asyncio.create_task(write())
    try:
        yield written
    finally:
        over = True
        await asyncio.gather(writing, return_exceptions=True)
    for operation in operations:
        written[operation].append(await backend.finish(operation))


async def grows(browser: Browser, operation: str) -> None:
    """More has come than now."""
    now = len(await browser.evaluate(f"page.ids({operation!r})"))
    await browser.until(f"page.ids({operation!r}).length > {now + 3}")


async def test_a_replica_is_killed(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    operations = [f"op-{n}" for n in range(8)]
    settings = {"auth.origins": json.dumps([pages.origin])}
    async with (
        Process(1, redis_server.url, settings) as one,
        Process(2, redis_server.url, settings) as two,
    ):
        urls = [f"http://127.0.0.1:{replica.port}" for replica in (one, two)]
        async with publishing(backend, operations) as written:
            await watch(browser, urls, operations)
            await grows(browser, "op-0")
            await one.kill()
            await browser.until("page.sockets().length > 1")
            await grows(browser, "op-7")
            await one.start()
            await two.kill()
            await grows(browser, "op-3")
        await all_came(browser, written)
    assert browser.console == [line for line in browser.console if "ERR_CONNECTION" in line]


async def test_rolling_drains(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    settings = {
        "auth.origins": json.dumps([pages.origin]),
        "drain.delay_s": 0,
        "drain.window_s": 1,
    }
    async with (
        Process(1, redis_server.url, settings) as one,
        Process(2, redis_server.url, settings) as two,
    ):
        urls = [f"http://127.0.0.1:{replica.port}" for replica in (one, two)]
        async with publishing(backend, ["a", "b"]) as written:
            await watch(browser, urls, ["a", "b"])
            await grows(browser, "a")
            for replica in (one, two):
                await replica.stop()
                await grows(browser, "a")
                await replica.start()
        await all_came(browser, written)
        assert await browser.evaluate("page.sockets().length") >= 2


async def test_redis_does_not_answer_for_a_while(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica:
        written = {"a": [await backend.publish("a", "log", n=0)]}
        await watch(browser, [base(replica)], ["a"])
        await browser.until("page.ids('a').length === 1")
        redis_server.pause()
        await browser.until("page.state('a').stale")
        redis_server.resume()
        await browser.until("!page.state('a').stale")
        written["a"].append(await backend.finish("a"))
        await all_came(browser, written)


async def test_a_gap_is_shown(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages, linger_s=0) as replica, in_front_of(replica) as proxy:
        await backend.publish_many("a", 3)
        await watch(browser, [base(proxy)], ["a"])
        await browser.until("page.ids('a').length === 3")
        await proxy.refuse()
        proxy.cut()
        await browser.until("page.are('waiting') || page.are('connecting')")
        await until(lambda: replica.channel("a") is None, "the replica has forgotten it")
        ids = await backend.publish_many("a", 5, start=3)
        await backend.trim("a", 2)
        await proxy.accept()
        await browser.until("page.ids('a').length === 5")
        shown = await state(browser, "a")
        assert (shown["gaps"], shown["partial"], shown["epoch"]) == (1, True, 0)
        assert shown["gap"]["reason"] == "trimmed"
        assert (await browser.evaluate("page.ids('a')"))[3:] == ids[3:]
        types = await browser.evaluate("page.seen().a.map(([type]) => type)")
        assert types == ["current_state", *["progress"] * 3, "gap", *["progress"] * 2]


async def test_a_log_that_begins_again(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica:
        for n in (1, 2, 3):
            await backend.publish("a", "log", entry_id=f"{n}-0", n=n)
        await watch(browser, [base(replica)], ["a"])
        await browser.until("page.ids('a').length === 3")
        await backend.delete("a")
        for n in (1, 2):
            await backend.publish("a", "log", entry_id=f"{n}-0", n=n)
        await browser.until("page.ids('a').length === 5")
        assert await browser.evaluate("page.seen().a.slice(-3)") == [
            ["gap", None, 1],
            ["log", "1-0", 1],
            ["log", "2-0", 1],
        ]


def signer(user: str, seconds: float) -> Callable[[], str]:
    return lambda: jwt.encode({"sub": user, "exp": time.time() + seconds, "n": time.time()}, SECRET)


def with_tokens(redis: Server, pages: PageServer) -> Replica:
    return Replica(
        redis.url,
        server={"auth": "jwt"},
        auth={"secret": SECRET, "origins": [pages.origin], "leeway_s": 0},
        source={"kind": "none"},
    )


async def test_a_token_is_renewed_on_the_live_socket(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    pages.answers["/token"] = signer("alice", 12)
    async with with_tokens(redis_server, pages) as replica:
        first = await backend.publish("a", "log")
        await watch(browser, [base(replica)], ["a"], token="/token")
        refreshes = "page.sockets()[0]?.sent.filter((text) => text.includes('refresh')).length"
        await browser.until(f"{refreshes} === 2")  # after 6 s and 12 s: the first token has ended
        written = {"a": [first, await backend.finish("a")]}
        await all_came(browser, written)
        assert await browser.evaluate("page.sockets().length") == 1
        (socket,) = await browser.evaluate("page.sockets()")
        assert "token" not in socket["url"]
        assert socket["protocols"][1].startswith("access_token.")


async def test_4401_is_answered_with_another_token(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    """The page's own store of tokens has the old one until just before its end."""
    old = signer("alice", 8)()
    pages.answers["/token"] = lambda: old
    async with with_tokens(redis_server, pages) as replica:
        async with publishing(backend, ["a"]) as written:
            await watch(browser, [base(replica)], ["a"], token="/token")
            await browser.until("page.sockets()[0]?.sent.some((text) => text.includes('refresh'))")
            pages.answers["/token"] = signer("alice", 300)
            await browser.until("page.sockets().length > 1")
            await grows(browser, "a")
        await all_came(browser, written)
        assert await browser.evaluate("page.sockets().length") == 2


async def test_a_bad_token_is_an_error_that_says_so(
    redis_server: Server, browser: Browser, pages: PageServer
) -> None:
    pages.answers["/token"] = lambda: "not.a.token"
    async with with_tokens(redis_server, pages) as replica:
        await watch(browser, [base(replica)], ["a"], token="/token")
        await browser.until("page.are('failed')")
        failure = (await state(browser, "a"))["failure"]
        assert (failure["name"], failure["retry"]) == ("SignInRequired", False)
        assert await browser.evaluate("page.sockets().length") == 1


async def test_offline_for_a_while(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    """The network swallows everything, as a dead access point does; then it is back."""
    async with for_pages(redis_server, pages) as replica, in_front_of(replica) as proxy:
        async with publishing(backend, ["a"]) as written:
            await watch(browser, [base(proxy)], ["a"])
            await grows(browser, "a")
            proxy.up.swallow()
            proxy.down.swallow()
            await proxy.refuse()
            await browser.until("!page.are('live')")
            proxy.cut()
            proxy.up.flow()
            proxy.down.flow()
            await proxy.accept()
            await browser.evaluate("dispatchEvent(new Event('online'))")
            await browser.until("page.are('live')")
            await grows(browser, "a")
        await all_came(browser, written)


async def test_a_frozen_tab(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica:
        async with publishing(backend, ["a"]) as written:
            await watch(browser, [base(replica)], ["a"])
            await grows(browser, "a")
            await browser._call("Page.setWebLifecycleState", state="frozen")
            enough = len(written["a"]) + 100
            await until(lambda: len(written["a"]) > enough)
            await browser._call("Page.setWebLifecycleState", state="active")
            await grows(browser, "a")
        await all_came(browser, written)


class NoUpgrade:
    """A proxy that knows no WebSocket: the header does not go through."""

    def __call__(self, data: bytes) -> bytes:
        return data.replace(b"Upgrade: websocket", b"X-Dropped: upgrade")


class NoStreams:
    """A proxy that waits for the end of each answer: of an event stream nothing but the head."""

    def __init__(self) -> None:
        self._held = False

    def __call__(self, data: bytes) -> bytes:
        if self._held:
            return b""
        head, end, _ = data.partition(b"\r\n\r\n")
        self._held = b"text/event-stream" in head
        return head + end if self._held else data


async def test_a_proxy_without_websockets_and_the_way_back(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica, in_front_of(replica) as proxy:
        proxy.up.filter = NoUpgrade
        async with publishing(backend, ["a", "b"]) as written:
            await watch(browser, [base(proxy)], ["a", "b"])
            await grows(browser, "b")
            assert all("/sse/" in url for url in await browser.evaluate("page.requests()"))
            tried = await browser.evaluate("page.sockets().length")
            proxy.up.filter = None
            await browser.until(f"page.sockets().length > {tried}")
            await browser.until("page.sockets().at(-1).sent.some((s) => s.includes('watch'))")
            await grows(browser, "a")
        await all_came(browser, written)


async def test_a_proxy_that_holds_back_streams_too(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica, in_front_of(replica) as proxy:
        proxy.up.filter = NoUpgrade
        proxy.down.filter = NoStreams
        async with publishing(backend, ["a"]) as written:
            await watch(browser, [base(proxy)], ["a"])
            await grows(browser, "a")
            assert "/events?" in (await browser.evaluate("page.requests()"))[-1]
            await grows(browser, "a")
        await all_came(browser, written)


async def test_500_operations_on_one_page(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    operations = [f"op-{n}" for n in range(500)]
    async with for_pages(redis_server, pages) as replica:
        await watch(browser, [base(replica)], operations)
        await browser.until("page.are('live')")
        written: dict[str, list[str]] = {}
        for operation in operations:
            written[operation] = await backend.publish_many(operation, 5, type_="log")
        for operation in operations:
            written[operation].append(await backend.finish(operation))
        await all_ended(browser)
        seen = await browser.evaluate("page.seen()")
        got = {name: [id_ for _, id_, _ in rows if id_] for name, rows in seen.items()}
        assert got == written
        assert await browser.evaluate("page.sockets().length") == 4


async def test_tabs_share_a_socket_and_outlive_the_one_that_has_it(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    """Frames of one origin share locks and channels as tabs do, and can be closed as they are."""
    await browser.evaluate(
        "for (const name of ['x', 'y', 'z'])"
        " document.body.append(Object.assign(document.createElement('iframe'), {src: '/', name}))"
    )
    await browser.until("frames.length === 3 && [0, 1, 2].every((n) => frames[n].page)")
    count = (
        "[...document.querySelectorAll('iframe')].map((f) => f.contentWindow.page.sockets().length)"
    )
    async with for_pages(redis_server, pages) as replica:
        async with publishing(backend, ["a", "b"]) as written:
            options = json.dumps({"url": base(replica), "shared": "alice"})
            for n in range(3):
                await browser.evaluate(f"frames[{n}].page.start({options}, ['a', 'b'])")
            for n in range(3):
                await browser.until(f"frames[{n}].page.ids('b').length > 5")
            counts: list[int] = await browser.evaluate(count)
            assert sorted(counts) == [0, 0, 1]
            leader = counts.index(1)
            await browser.evaluate(f"document.querySelectorAll('iframe')[{leader}].remove()")
            await browser.until("frames.length === 2")
            await browser.until(f"{count}.some((sockets) => sockets > 0)")
            for n in range(2):
                now = await browser.evaluate(f"frames[{n}].page.ids('b').length")
                await browser.until(f"frames[{n}].page.ids('b').length > {now + 5}")
        for n in range(2):
            await browser.until(f"frames[{n}].page.are('ended')")
            for operation, ids in written.items():
                assert await browser.evaluate(f"frames[{n}].page.ids({operation!r})") == ids
        assert sorted(await browser.evaluate(count)) == [0, 1]


async def test_the_back_forward_cache(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    """A page with an open socket does not get into it; one that comes out resumes."""
    async with for_pages(redis_server, pages) as replica:
        written = {"a": [await backend.publish("a", "log")]}
        await watch(browser, [base(replica)], ["a"])
        await browser.until("page.ids('a').length === 1")
        await browser.evaluate("onpageshow = (event) => { globalThis.kept = event.persisted }")
        await browser.evaluate("location.href = '/?other'")
        await browser.until("location.search === '?other' && typeof page === 'object'")
        written["a"].append(await backend.publish("a", "log"))
        await browser.evaluate("history.back()")
        await browser.until("location.search === '' && globalThis.kept !== undefined")
        assert await browser.evaluate("globalThis.kept")
        await browser.until("page.ids('a').length === 2")
        written["a"].append(await backend.finish("a"))
        await all_came(browser, written)
        assert await browser.evaluate("page.sockets().length") == 2


async def test_in_a_web_worker(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica:
        ids = await backend.publish_many("a", 20, type_="log")
        asked = json.dumps({"url": base(replica), "operation": "a"})
        await browser.evaluate(
            "{ const worker = new Worker('/worker.js', {type: 'module'});"
            " worker.onmessage = ({data}) => { globalThis.answer = data };"
            f" worker.postMessage({asked}); }}"
        )
        ids.append(await backend.finish("a"))
        assert await browser.until("globalThis.answer") == {"ids": ids, "status": "completed"}


async def alive(browser: Browser, prototype: str) -> int:
    """Objects in the heap behind a full collection that inherit from this. Not bytes: compiled
    code, and the scripts of this very test, come on top of what a page keeps.
    """
    found = await browser._call("Runtime.evaluate", expression=prototype, objectGroup="heap")
    objects = await browser._call(
        "Runtime.queryObjects",
        prototypeObjectId=found["result"]["objectId"],
        objectGroup="heap",
    )
    count = await browser._call(
        "Runtime.callFunctionOn",
        functionDeclaration="function() { return this.length }",
        objectId=objects["objects"]["objectId"],
        returnByValue=True,
    )
    await browser._call("Runtime.releaseObjectGroup", objectGroup="heap")
    return int(count["result"]["value"])


async def test_1000_watches_that_came_and_went_leave_nothing_behind(
    redis_server: Server, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica:
        await watch(browser, [base(replica)], ["stays"])
        await browser.until("page.are('live')")

        async def churn(first: int, count: int) -> None:
            for n in range(first, first + count, 100):
                names = json.dumps([f"op-{i}" for i in range(n, n + 100)])
                await browser.evaluate(f"void page.churn({names})")
                await browser.until(f"globalThis.churned === {n + 100}")
            # The gateway is told of each, and the test's notes are none of the client's.
            left = "page.sockets()[0].sent.filter((text) => text.includes('unwatch')).length"
            await browser.until(f"{left} === {count}")
            await browser.evaluate("page.sockets().forEach((socket) => { socket.sent = [] })")

        await churn(0, 100)  # what is made once is made by now
        before = await alive(browser, "Object.prototype")

        async def as_before() -> bool:
            return await alive(browser, "Object.prototype") <= before * 1.02

        await churn(100, 1000)
        await until(as_before, "objects have been kept")
        watches = "Object.getPrototypeOf(page.watch('stays'))"
        assert await alive(browser, watches) == 1
        assert await browser.evaluate("page.sockets().length") == 1
