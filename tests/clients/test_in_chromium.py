"""The packed browser client in a real Chromium against real gateways, while both are hurt.

What is proved each time: of what a backend wrote, the page got each entry once and in order, or was
told of a gap (`verdict`); and the client got there by the way it should.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import jwt
import pytest

from tests.cli.browser import Browser
from tests.clients.package import PageServer
from tests.clients.scene import base, for_pages, publishing, state, watch
from tests.clients.verdict import all_came, grows
from tests.faults.publisher import Publisher
from tests.faults.replicas import Replica as Process
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.proxy import Proxy
from tests.servers.standalone import Options, Server

pytestmark = [
    pytest.mark.real("chromium", "node"),
    pytest.mark.full,
    pytest.mark.xdist_group("js"),
    pytest.mark.timeout(240),
]

SECRET = "k" * 32
DURABLE = Options(durable=True, config={"appendfsync": "always"})


def in_front_of(replica: Replica) -> Proxy:
    return Proxy(("127.0.0.1", replica.settings.server.port))


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
        async with publishing(backend, operations) as publishers:
            await watch(browser, urls, operations)
            await grows(browser, "op-0")
            await one.kill()
            await browser.until("page.sockets().length > 1")
            await grows(browser, "op-7")
            await one.start()
            await two.kill()
            await grows(browser, "op-3")
        await all_came(browser, publishers.values())
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
        async with publishing(backend, ["a", "b"]) as publishers:
            await watch(browser, urls, ["a", "b"])
            await grows(browser, "a")
            for replica in (one, two):
                await replica.stop()
                await grows(browser, "a")
                await replica.start()
        await all_came(browser, publishers.values())
        assert await browser.evaluate("page.sockets().length") >= 2


async def test_redis_does_not_answer_for_a_while(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    publisher = Publisher(backend.client, "a")
    async with for_pages(redis_server, pages) as replica:
        await publisher.write()
        await watch(browser, [base(replica)], ["a"])
        await browser.until("page.ids('a').length === 1")
        redis_server.pause()
        try:
            await browser.until("page.state('a').stale")
        finally:
            redis_server.resume()
        await browser.until("!page.state('a').stale")
        await publisher.finish()
        await all_came(browser, [publisher])


async def test_redis_is_killed_and_started_again(browser: Browser, pages: PageServer) -> None:
    async with (
        Server(binaries.embedded(), DURABLE) as redis,
        redis.client(socket_timeout=1.0, socket_connect_timeout=1.0) as client,
        for_pages(redis, pages) as replica,
    ):
        async with publishing(Backend(client), ["a", "b"]) as publishers:
            await watch(browser, [base(replica)], ["a", "b"])
            await grows(browser, "b")
            await redis.kill()
            await browser.until("page.state('a').stale && page.state('b').stale")
            await redis.restart()
            await browser.until("!page.state('a').stale && !page.state('b').stale")
            await grows(browser, "a")
            await grows(browser, "b")
        await all_came(browser, publishers.values())
        assert sum(publisher.uncertain for publisher in publishers.values())
        types = await browser.evaluate("page.seen().a.map(([type]) => type)")
        # All that the page had, and nothing while nobody could know.
        at = types.index("stale")
        assert types[at + 1] == "live"
        assert types[at + 2 :].count("stale") == 0
        assert await browser.evaluate("page.sockets().length") == 1


async def test_a_gap_is_shown(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    publisher = Publisher(backend.client, "a")
    async with for_pages(redis_server, pages, linger_s=0) as replica, in_front_of(replica) as proxy:
        await publisher.write_many(3)
        await watch(browser, [base(proxy)], ["a"])
        await browser.until("page.ids('a').length === 3")
        await proxy.refuse()
        proxy.cut()
        await browser.until("page.are('waiting') || page.are('connecting')")
        await until(lambda: replica.channel("a") is None, "the replica has forgotten it")
        await publisher.write_many(5)
        await backend.trim("a", 2)
        await proxy.accept()
        await browser.until("page.ids('a').length === 5")
        shown = await state(browser, "a")
        assert (shown["gaps"], shown["partial"], shown["epoch"]) == (1, True, 0)
        assert shown["gap"]["reason"] == "trimmed"
        await publisher.finish()
        await all_came(browser, [publisher], gaps=1, trimmed=True)


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
        assert await browser.evaluate("page.seen().a.slice(-3).map((row) => row.slice(0, 3))") == [
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
        publisher = Publisher(backend.client, "a")
        await publisher.write()
        await watch(browser, [base(replica)], ["a"], token="/token")
        refreshes = "page.sockets()[0]?.sent.filter((text) => text.includes('refresh')).length"
        await browser.until(f"{refreshes} === 2")  # after 6 s and 12 s: the first token has ended
        await publisher.finish()
        await all_came(browser, [publisher])
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
        async with publishing(backend, ["a"]) as publishers:
            await watch(browser, [base(replica)], ["a"], token="/token")
            await browser.until("page.sockets()[0]?.sent.some((text) => text.includes('refresh'))")
            pages.answers["/token"] = signer("alice", 300)
            await browser.until("page.sockets().length > 1")
            await grows(browser, "a")
        await all_came(browser, publishers.values())
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
        async with publishing(backend, ["a"]) as publishers:
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
        await all_came(browser, publishers.values())


async def test_a_frozen_tab(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with for_pages(redis_server, pages) as replica:
        async with publishing(backend, ["a"]) as publishers:
            await watch(browser, [base(replica)], ["a"])
            await grows(browser, "a")
            await browser.call("Page.setWebLifecycleState", state="frozen")
            enough = publishers["a"].last + 100
            await until(lambda: publishers["a"].last > enough)
            await browser.call("Page.setWebLifecycleState", state="active")
            await grows(browser, "a")
        await all_came(browser, publishers.values())


async def test_500_operations_on_one_page(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    operations = [f"op-{n}" for n in range(500)]
    async with for_pages(redis_server, pages) as replica:
        await watch(browser, [base(replica)], operations)
        await browser.until("page.are('live')")
        publishers = [Publisher(backend.client, operation) for operation in operations]
        for publisher in publishers:
            await publisher.write_many(5)
        for publisher in publishers:
            await publisher.finish()
        await all_came(browser, publishers)
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
        async with publishing(backend, ["a", "b"]) as publishers:
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
                await grows(browser, "b", of=f"frames[{n}].page", by=5)
        for n in range(2):
            await all_came(browser, publishers.values(), of=f"frames[{n}].page")
        assert sorted(await browser.evaluate(count)) == [0, 1]


async def test_the_back_forward_cache(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    """A page with an open socket does not get into it; one that comes out resumes."""
    async with for_pages(redis_server, pages) as replica:
        publisher = Publisher(backend.client, "a")
        await publisher.write()
        await watch(browser, [base(replica)], ["a"])
        await browser.until("page.ids('a').length === 1")
        await browser.evaluate("onpageshow = (event) => { globalThis.kept = event.persisted }")
        await browser.evaluate("location.href = '/?other'")
        await browser.until("location.search === '?other' && typeof page === 'object'")
        await publisher.write()
        await browser.evaluate("history.back()")
        await browser.until("location.search === '' && globalThis.kept !== undefined")
        assert await browser.evaluate("globalThis.kept")
        await browser.until("page.ids('a').length === 2")
        await publisher.finish()
        await all_came(browser, [publisher])
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
    found = await browser.call("Runtime.evaluate", expression=prototype, objectGroup="heap")
    objects = await browser.call(
        "Runtime.queryObjects",
        prototypeObjectId=found["result"]["objectId"],
        objectGroup="heap",
    )
    count = await browser.call(
        "Runtime.callFunctionOn",
        functionDeclaration="function() { return this.length }",
        objectId=objects["objects"]["objectId"],
        returnByValue=True,
    )
    await browser.call("Runtime.releaseObjectGroup", objectGroup="heap")
    return int(count["result"]["value"])


async def test_1000_watches_that_came_and_went_leave_nothing_behind(
    redis_server: Server, browser: Browser, pages: PageServer
) -> None:
    """By several clients: a gateway takes 50 messages a second from each socket."""
    stays = [f"stays-{n}" for n in range(4)]
    async with for_pages(redis_server, pages) as replica:
        for operation in stays:
            await watch(browser, [base(replica)], [operation])
        await browser.until("page.are('live')")

        async def churn(first: int, count: int) -> None:
            for n in range(first, first + count, 200):
                names = json.dumps([f"op-{i}" for i in range(n, n + 200)])
                await browser.evaluate(f"void page.churn({names})")
                await browser.until(f"globalThis.churned === {n + 200}")
            # The gateway is told of each, and the test's notes are none of the client's.
            left = (
                "page.sockets().flatMap(({sent}) => sent)"
                ".filter((text) => text.includes('unwatch')).length"
            )
            await browser.until(f"{left} === {count}")
            await browser.evaluate("page.sockets().forEach((socket) => { socket.sent = [] })")

        await churn(0, 200)  # what is made once is made by now
        before = await alive(browser, "Object.prototype")

        async def as_before() -> bool:
            return await alive(browser, "Object.prototype") <= before * 1.02

        await churn(200, 1000)
        await until(as_before, "objects have been kept")
        counts: list[int] = []

        async def only_those_that_stay() -> bool:
            watches = "Object.getPrototypeOf(page.watch('stays-0'))"
            counts.append(await alive(browser, watches))
            return counts[-1] == len(stays)

        # The last ones go when the browser's own tasks have let go of them.
        await until(only_those_that_stay, lambda: f"watches have been kept: {counts}")
        assert await browser.evaluate("page.sockets().length") == len(stays)
