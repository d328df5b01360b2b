"""`tidegate doctor`: a real gateway, and proxies in front of it that do one thing wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.cli.command import invoke, run
from tests.harness.replica import Replica
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tests.web.auth.http_server import HttpServer, Reply, Request
from tests.web.auth.tokens import SECRET, signed
from tidegate.cli.doctor_gateway import examine_gateway, parse_gateway
from tidegate.model.findings import Finding, FindingLevel

#: Enough for a response on a busy machine; a test of what never comes waits for all of it.
PATIENCE_S = 3.0
NOT_FOUND = Reply(
    404,
    json.dumps({"code": "not_a_stream", "detail": "there is no stream"}).encode(),
    {"Content-Type": "application/problem+json"},
)


def address(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


def admin(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.admin_port}"


async def examined(url: str, token: str | None = None) -> dict[str, Finding]:
    return {one.check: one for one in await examine_gateway(url, token, PATIENCE_S)}


async def test_a_gateway_and_its_redis_are_well(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        done = await run(
            *("doctor", "--redis", redis_server.url, "--url", address(replica)),
            *("--admin", admin(replica), "--json"),
        )
    report = json.loads(done.out)
    assert done.code == 0, done
    assert report["verdict"] != "failed"
    verdicts = {one["check"]: one["verdict"] for one in report["findings"]}
    assert {"version", "acl", "tracking", "http", "websocket", "event stream", "health"} <= set(
        verdicts
    )
    assert verdicts["http"] == verdicts["websocket"] == verdicts["health"] == "ok"
    assert verdicts["event stream"] in ("ok", "warning")  # slow on a busy machine


async def test_without_a_token_the_path_is_tried_all_the_same(redis_server: Server) -> None:
    groups: dict[str, Any] = {
        "server": {"auth": "jwt"},
        "auth": {"secret": SECRET},
        "source": {"kind": "none"},
    }
    async with Replica(redis_server.url, **groups) as replica:
        without = await run("doctor", "--url", address(replica))
        wrong = await run("doctor", "--url", address(replica), "--token", signed(exp=1))
        right = await run("doctor", "--url", address(replica), TIDEGATE_TOKEN=signed())
    assert without.code == 0
    assert "a token is required" in without.out
    assert "TIDEGATE_TOKEN" in without.out
    assert wrong.code == 1
    assert "the token has expired" in wrong.out
    assert "tidegate token check" in wrong.out
    assert right.code == 0
    assert "a ping takes" in right.out


async def test_what_fails_is_marked_and_ends_with_1() -> None:
    port = free_port()
    done = await invoke("doctor", "--redis", f"redis://u:hunter2@127.0.0.1:{port}")
    assert done.code == 1
    assert "failed " in done.out
    assert "-> no server listens there" in done.out
    assert "hunter2" not in done.out + done.err
    admin_port = await invoke("doctor", "--admin", f"http://127.0.0.1:{port}")
    assert admin_port.code == 1
    assert "admin port, 9090" in admin_port.out


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--url", "ftp://h"), ("--url", "http://"), ("--url", "http://u:p@h")),
        *(("--url", "http://h?x=1"), ("--url", "http://h:99999"), ("--admin", "http://h")),
        ("--url", "http://h", "--token", "two words"),
        ("--redis", "http://h"),
    ],
)
async def test_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    assert (await invoke("doctor", *arguments)).code == 2


def test_addresses_of_viewers_are_understood() -> None:
    assert parse_gateway("wss://h/live/") == "https://h/live"
    assert parse_gateway("h:8080") == "http://h:8080"


async def test_a_proxy_that_does_not_upgrade_and_buffers() -> None:
    never = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if request.path.startswith("/operations/"):
            return NOT_FOUND
        if request.path.startswith("/ws/"):
            return Reply(400, b"no upgrade")
        await never.wait()
        return Reply()

    async with HttpServer(answer) as proxy:
        found = await examined(proxy.url)
        never.set()
    assert found["http"].verdict is FindingLevel.OK
    assert found["websocket"].verdict is FindingLevel.FAILED
    assert "400 instead of 101" in found["websocket"].found
    assert "Upgrade" in found["websocket"].advice
    assert found["event stream"].verdict is FindingLevel.FAILED
    assert "buffered" in found["event stream"].found
    assert "proxy_buffering off" in found["event stream"].advice


@pytest.mark.parametrize(
    ("reply", "verdict", "words"),
    [
        (Reply(200, b"x", {"Content-Type": "text/html"}), FindingLevel.FAILED, "as text/html"),
        (Reply(502, b"x"), FindingLevel.FAILED, "status 502"),
        (Reply(200, b"", {"Content-Type": "text/html"}), FindingLevel.FAILED, "as text/html"),
        (
            Reply(200, b"x", {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}),
            FindingLevel.WARNING,
            "compressed with gzip",
        ),
    ],
)
async def test_a_proxy_that_changes_event_streams(
    reply: Reply, verdict: FindingLevel, words: str
) -> None:
    async def answer(request: Request) -> Reply:
        return reply if request.path.startswith("/sse/") else NOT_FOUND

    async with HttpServer(answer) as proxy:
        found = (await examined(proxy.url))["event stream"]
    assert found.verdict is verdict
    assert words in found.found


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>"),
        Reply(404, b"not found"),
        Reply(200, b"[1]"),
        Reply(200, b"{}" + b" " * 100_000),
        Reply(503, b'{"code":"overloaded","detail":"\x1b[2J"}'),
        b"\x00\x01",
        b"",
    ],
)
async def test_what_is_no_gateway_fails_at_the_first_step(reply: Reply | bytes) -> None:
    async def answer(_: Request) -> Reply | bytes:
        return reply

    async with HttpServer(answer) as other:
        done = await invoke("doctor", "--url", other.url)
    assert done.code == 1
    assert "failed " in done.out
    assert "websocket" not in done.out
    assert "\x1b" not in done.out
    assert "Traceback" not in done.err
