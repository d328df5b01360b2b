"""The backend as it answers, lies, hangs, and comes back; over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.tls import Certificates
from tests.web.auth.clock import Clock
from tests.web.auth.http_server import HttpServer, Reply, Request
from tidegate.model.errors import SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import SourceSettings
from tidegate.web.access.authenticator import operation_source
from tidegate.web.auth.breaker import BreakerState
from tidegate.web.auth.credentials import Token
from tidegate.web.auth.http_source import HttpSource
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.problem import Forbidden, NotFound, Refused, SourceFailed

ANN, BOB = Identity("ann"), Identity("bob")
TOKEN = Token("head.body.sign")
JOB = OperationId("job:1@a+b=c~d")
YES = Reply(body=b'{"status": "running"}')


@contextlib.asynccontextmanager
async def asking(url: str, clock: Clock | None = None, **fields: Any) -> AsyncIterator[HttpSource]:
    # Longer than a busy machine may take: a time-out is a failure of the backend.
    patient = {"kind": "http", "url": url, "timeout_s": 30}
    settings = SourceSettings.model_validate(patient | fields)
    source = operation_source(settings, None)
    assert isinstance(source, HttpSource)
    if clock is not None:
        source._clock = source.answers._clock = clock
    try:
        yield source
    finally:
        await source.close()


async def refusal(
    source: HttpSource, identity: Identity = ANN, operation: str = JOB, token: Token = TOKEN
) -> type[Refused]:
    with pytest.raises(Refused) as caught:
        await source.check(identity, token, OperationId(operation))
    assert TOKEN.text not in f"{caught.value!r} {caught.value} {vars(caught.value)}"
    return type(caught.value)


async def test_the_backend_is_asked_with_the_users_token_and_says_yes() -> None:
    async with HttpServer(YES) as server, asking(f"{server.url}/api/operations/") as source:
        assert (await source.check(ANN, TOKEN, JOB)).state == {"status": "running"}
        (request,) = server.requests
        assert request.path == "/api/operations/job:1@a+b=c~d"
        assert request.headers["authorization"] == "Bearer head.body.sign"
        assert request.headers["accept-encoding"] == "identity"
        assert "cookie" not in request.headers


@pytest.mark.parametrize("reply", [Reply(200), Reply(204)])
async def test_yes_without_a_state(reply: Reply) -> None:
    async with HttpServer(reply) as server, asking(server.url) as source:
        assert (await source.check(ANONYMOUS, None, JOB)).state is None
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("reply", "kind", "counts"),
    [
        (Reply(401), Forbidden, False),
        (Reply(403, b"<html>"), Forbidden, False),
        (Reply(404), NotFound, False),
        (Reply(410), NotFound, False),
        (Reply(400), NotFound, False),
        (Reply(422), NotFound, False),
        (Reply(405), SourceFailed, False),
        (Reply(200, b"<html>"), SourceFailed, False),
        (Reply(200, b"true"), SourceFailed, False),
        (Reply(200, b"[]"), SourceFailed, False),
        (Reply(200, b'{"a": NaN}'), SourceFailed, False),
        (Reply(200, b"{" + b" " * 70_000 + b"}"), SourceFailed, False),
        (Reply(200, b"{}", {"content-encoding": "gzip"}), SourceFailed, False),
        (Reply(206, b"{}"), SourceFailed, True),
        (Reply(302, b"", {"location": "/elsewhere"}), SourceFailed, True),
        (Reply(307, b"", {"location": "https://evil.example/"}), SourceFailed, True),
        (Reply(429), SourceFailed, False),
        (Reply(500, b"{}"), SourceFailed, True),
        (Reply(503), SourceFailed, True),
        (b"", SourceFailed, True),
        (b"\x00\x01\x02\r\n\r\n", SourceFailed, True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", SourceFailed, True),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000, SourceFailed, True),
    ],
)
async def test_every_other_answer(reply: Reply | bytes, kind: type[Refused], counts: bool) -> None:
    async def answer(request: Request) -> Reply | bytes:
        return reply

    async with HttpServer(answer) as server, asking(server.url, breaker_failures=1) as source:
        assert await refusal(source) is kind
        # Nobody follows a redirect, and only failures of the backend itself open the breaker.
        assert [request.path for request in server.requests] == [f"/{JOB}"]
        assert source.breaker.state is (BreakerState.OPEN if counts else BreakerState.CLOSED)


async def test_a_body_without_an_end_is_cut() -> None:
    async def endless(request: Request) -> bytes:
        return (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 50
        )

    async with HttpServer(endless) as server, asking(server.url) as source:
        assert await refusal(source) is SourceFailed


async def test_a_backend_that_hangs_costs_the_time_out() -> None:
    async def never(request: Request) -> Reply:
        await asyncio.Event().wait()
        return YES

    async with HttpServer(never) as server, asking(server.url, timeout_s=0.05) as source:
        assert await refusal(source) is SourceFailed


async def test_answers_hold_for_user_token_and_operation() -> None:
    clock = Clock()
    async with HttpServer(YES) as server, asking(server.url, clock, cache_s=5) as source:
        for identity, token, operation in (
            (ANN, TOKEN, JOB),
            (BOB, TOKEN, JOB),
            (ANN, Token("x.y.z"), JOB),
            (ANN, None, JOB),
            (ANN, TOKEN, OperationId("other")),
        ):
            before = len(server.requests)
            for _ in range(3):
                assert (await source.check(identity, token, operation)).state
            assert len(server.requests) == before + 1
        server.answer = Reply(403)
        clock.now += 4.9
        assert (await source.check(ANN, TOKEN, JOB)).state
        clock.now += 0.1
        assert await refusal(source) is Forbidden
        server.answer = YES
        assert await refusal(source) is Forbidden


async def test_no_such_operation_holds_for_a_second() -> None:
    clock = Clock()
    async with HttpServer(Reply(404)) as server, asking(server.url, clock) as source:
        assert await refusal(source) is NotFound
        server.answer = YES
        clock.now += 0.9
        assert await refusal(source) is NotFound
        clock.now += 0.1
        assert (await source.check(ANN, TOKEN, JOB)).state


async def test_answers_are_bounded() -> None:
    async with HttpServer(YES) as server, asking(server.url, cache_entries=2) as source:
        for number in range(20):
            await source.check(ANN, TOKEN, OperationId(f"job-{number}"))
        assert len(source.answers) == 2


async def test_a_crowd_asks_once_and_few_at_a_time() -> None:
    now = most = 0

    async def slow(request: Request) -> Reply:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return YES

    async with HttpServer(slow) as server, asking(server.url, max_requests=4) as source:
        async with asyncio.TaskGroup() as tasks:
            for viewer in range(300):
                operation = OperationId(f"job-{viewer % 30}")
                tasks.create_task(source.check(ANN, TOKEN, operation))
        assert len(server.requests) == 30
        assert most <= 4


async def test_the_breaker_opens_leaves_alone_tries_and_closes() -> None:
    clock = Clock()
    users = [Identity(f"user-{number}") for number in range(20)]
    async with (
        HttpServer(Reply(500)) as server,
        asking(server.url, clock, breaker_failures=3, breaker_open_s=5) as source,
    ):
        for user in users:
            assert await refusal(source, user) is SourceFailed
        assert len(server.requests) == 3
        clock.now += 5
        for user in users:  # one after the other tries, until it has failed for three again
            assert await refusal(source, user) is SourceFailed
        assert len(server.requests) == 6
        await server.stop()
        clock.now += 5
        assert await refusal(source) is SourceFailed
        server.answer = YES
        await server.start()
        assert await refusal(source) is SourceFailed  # it had its try
        clock.now += 5
        assert (await source.check(ANN, TOKEN, JOB)).state
        assert source.breaker.state is BreakerState.CLOSED


async def test_a_viewer_that_goes_away_while_the_breaker_tries_blocks_nobody() -> None:
    clock = Clock()
    asked = asyncio.Event()

    async def never(request: Request) -> Reply:
        asked.set()
        await asyncio.Event().wait()
        return YES

    async with (
        HttpServer(Reply(500)) as server,
        asking(server.url, clock, breaker_failures=1) as source,
    ):
        assert await refusal(source) is SourceFailed
        clock.now += 5
        server.answer = never
        trying = asyncio.create_task(source.check(ANN, TOKEN, JOB))
        await asked.wait()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        server.answer = YES
        assert (await source.check(ANN, TOKEN, JOB)).state


async def test_one_users_cookie_is_not_sent_for_the_next() -> None:
    reply = Reply(200, b"{}", {"set-cookie": "session=ann; Path=/"})
    async with HttpServer(reply) as server, asking(server.url, cache_s=0) as source:
        await source.check(ANN, TOKEN, JOB)
        await source.check(BOB, Token("x.y.z"), JOB)
        assert "cookie" not in server.requests[1].headers


async def test_no_proxy_of_the_environment_sees_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HttpServer(YES) as server, HttpServer(YES) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with asking(server.url) as source:
            assert (await source.check(ANN, TOKEN, JOB)).state
        assert len(server.requests) == 1
        assert not proxy.requests


async def test_https_only_with_the_right_authority(
    certificates: Certificates, tmp_path: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server_cert_file, certificates.server_key_file)
    async with HttpServer(YES, tls=context) as server:
        async with asking(server.url, ca_file=certificates.ca_file) as source:
            assert (await source.check(ANN, TOKEN, JOB)).state
        async with asking(server.url, ca_file=Certificates(tmp_path).ca_file) as source:
            assert await refusal(source) is SourceFailed
        assert len(server.requests) == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    settings = SourceSettings.model_validate({"kind": "http", "url": "https://h", "ca_file": path})
    with pytest.raises(SettingsError, match=r"source\.ca_file"):
        operation_source(settings, None)
