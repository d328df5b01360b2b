"""Published keys over a real server: rotation, an outage, an attacker's key ids, bad answers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.tls import Certificates
from tests.web.auth.clock import Clock
from tests.web.auth.http_server import HttpServer, Reply, Request
from tests.web.auth.tokens import USER, jwk, jwks, signed
from tidegate.model.settings import AuthSettings
from tidegate.web.auth.credentials import Token
from tidegate.web.auth.fetch import Fetcher
from tidegate.web.auth.jwks import DOCUMENT_MAX_BYTES, Jwks
from tidegate.web.auth.verifier import Verifier
from tidegate.web.problem import Unauthenticated

OLD, NEW = jwk("rsa", "old"), jwk("p256", "new")


def fetcher(timeout_s: float = 5.0, ca_file: Path | None = None) -> Fetcher:
    return Fetcher(
        timeout_s=timeout_s,
        max_bytes=DOCUMENT_MAX_BYTES,
        max_requests=1,
        ca_file=ca_file,
        use_proxy=False,
        setting="auth.jwks_ca_file",
    )


@contextlib.asynccontextmanager
async def running(
    url: str,
    *,
    min_interval_s: float = 0.05,
    max_age_s: float = 3600,
    timeout_s: float = 5.0,
    clock: Clock | None = None,
    ca_file: Path | None = None,
) -> AsyncIterator[Jwks]:
    more = {} if clock is None else {"clock": clock}
    keys = Jwks(
        url,
        fetcher(timeout_s, ca_file),
        min_interval_s=min_interval_s,
        max_age_s=max_age_s,
        timeout_s=timeout_s,
        **more,
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(keys.run())
            yield keys
            task.cancel()
    finally:
        await keys.close()


async def round_over(keys: Jwks) -> None:
    """The fetch that is under way, or the next one, is over."""
    async with asyncio.timeout(10):
        await keys._round.wait()


async def refusal(keys: Jwks, kid: str | None) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await keys.find(kid)
    return caught.value


async def test_keys_are_fetched_at_the_start_and_the_first_viewer_waits_for_them() -> None:
    go_on = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await go_on.wait()
        return Reply(body=jwks(OLD, NEW))

    async with HttpServer(answer) as server, running(server.url) as keys:
        waiting = [asyncio.create_task(keys.find("new")) for _ in range(50)]
        gone = waiting.pop()
        await asyncio.sleep(0)
        gone.cancel()
        go_on.set()
        for found in await asyncio.gather(*waiting):
            assert [key.kid for key in found] == ["new"]
        assert gone.cancelled()
        assert len(server.requests) == 1


async def test_tokens_of_a_rotated_key_are_believed_and_of_a_withdrawn_one_not() -> None:
    clock = Clock()
    async with (
        HttpServer(Reply(body=jwks(OLD))) as server,
        running(server.url, clock=clock) as keys,
    ):
        verifier = Verifier(AuthSettings(), keys)
        old = Token(signed("RS256", "rsa", headers={"kid": "old"}))
        new = Token(signed("ES256", "p256", headers={"kid": "new"}))
        assert (await verifier.verify(old)).user == USER
        server.answer = Reply(body=jwks(NEW))
        clock.now += 0.04
        assert (await refusal(keys, "new")).retry
        clock.now += 0.02  # the least interval since the first fetch has passed
        assert (await verifier.verify(new)).user == USER
        assert len(server.requests) == 2
        with pytest.raises(Unauthenticated):
            await verifier.verify(old)


async def test_made_up_key_ids_do_not_make_fetches() -> None:
    clock = Clock()
    async with (
        HttpServer(Reply(body=jwks(OLD))) as server,
        running(server.url, min_interval_s=3600, clock=clock) as keys,
    ):
        assert await keys.find("old")
        for number in range(500):
            error = await refusal(keys, f"made-up-{number}")
            assert (error.code, error.retry, error.close.code) == ("keys_unavailable", True, 1013)
        assert len(server.requests) == 1
        assert await keys.find("old")


async def test_a_key_id_that_is_unknown_after_a_fetch_is_settled() -> None:
    async with HttpServer(Reply(body=jwks(OLD))) as server, running(server.url) as keys:
        assert await keys.find("made-up") == ()
        assert len(server.requests) == 1


async def test_while_the_url_is_down_the_old_keys_are_good() -> None:
    async with (
        HttpServer(Reply(body=jwks(OLD))) as server,
        running(server.url, max_age_s=0.05) as keys,
    ):
        assert await keys.find("old")
        await server.stop()
        for _ in range(3):
            await round_over(keys)
            assert await keys.find("old")
        assert keys.stats().failures >= 2
        error = await refusal(keys, "new")
        assert error.retry
        server.answer = Reply(body=jwks(NEW))
        await server.start()
        while not keys._known("new"):
            await round_over(keys)
        assert await keys.find("new")


async def test_down_from_the_start_means_come_back_later() -> None:
    server = HttpServer(Reply(body=jwks(OLD)))
    async with running(server.url) as keys:
        assert (await refusal(keys, "old")).retry
        assert (await refusal(keys, None)).retry
        assert keys.stats().age_s is None
        async with server:
            while not keys._known("old"):
                await round_over(keys)
            assert await keys.find("old")


@pytest.mark.parametrize(
    "answer",
    [
        Reply(500),
        Reply(404, jwks(NEW)),
        Reply(302, b"", {"location": "http://127.0.0.1:1/"}),
        Reply(200, b"<html>"),
        Reply(200, b"{}"),
        Reply(200, jwks()),
        Reply(200, jwks(jwk("rsa1024", "new"))),
        Reply(200, jwks({"kty": "oct", "k": "A" * 64, "kid": "new"})),
        Reply(200, b" " * (DOCUMENT_MAX_BYTES + 1)),
        Reply(200, jwks(NEW), {"content-encoding": "gzip"}),
        b"no http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
        b"",
    ],
)
async def test_an_answer_that_is_none_changes_nothing(answer: Reply | bytes) -> None:
    async with (
        HttpServer(Reply(body=jwks(OLD))) as server,
        running(server.url, max_age_s=0.05) as keys,
    ):
        assert await keys.find("old")

        async def bad(request: Request) -> Reply | bytes:
            return answer

        server.answer = bad
        failures = keys.stats().failures
        while keys.stats().failures == failures:
            await round_over(keys)
        assert await keys.find("old")
        assert keys._known("new") == ()


async def test_a_url_that_never_answers_costs_one_time_out() -> None:
    async def never(request: Request) -> Reply:
        await asyncio.Event().wait()
        return Reply()

    async with HttpServer(never) as server, running(server.url, timeout_s=0.2) as keys:
        keys._timeout_s = 30  # the viewer's own patience, which must not end at the same time
        assert (await refusal(keys, "old")).retry
        assert keys.stats().failures == 1


async def test_old_keys_are_fetched_again() -> None:
    async with (
        HttpServer(Reply(body=jwks(OLD, NEW))) as server,
        running(server.url, max_age_s=0.05) as keys,
    ):
        assert await keys.find("old")
        server.answer = Reply(body=jwks(NEW))
        while keys._known("old"):
            await round_over(keys)
        assert await keys.find("new")


async def test_without_a_key_id_a_few_keys_are_tried() -> None:
    few = [jwk("p256", f"k{number}", number) for number in range(4)]
    async with HttpServer(Reply(body=jwks(*few))) as server, running(server.url) as keys:
        verifier = Verifier(AuthSettings(), keys)
        token = Token(signed("ES256", "p256", 3))
        assert (await verifier.verify(token)).user == USER
        with pytest.raises(Unauthenticated, match="signature"):
            await verifier.verify(Token(signed("ES256", "p256", 4)))
    many = [*few, jwk("p256", "k4", 4)]
    async with HttpServer(Reply(body=jwks(*many))) as server, running(server.url) as keys:
        assert await keys.find("k4")
        assert await keys.find(None) == ()


async def test_https_with_an_authority_of_ones_own(
    certificates: Certificates, tmp_path: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server_cert_file, certificates.server_key_file)
    async with HttpServer(Reply(body=jwks(OLD)), tls=context) as server:
        assert server.url.startswith("https")
        async with running(server.url, ca_file=certificates.ca_file) as keys:
            assert await keys.find("old")
        other = Certificates(tmp_path)
        async with running(server.url, ca_file=other.ca_file) as keys:
            assert (await refusal(keys, "old")).retry


async def test_without_its_task_it_gives_up_waiting() -> None:
    keys = Jwks("http://127.0.0.1:1", fetcher(), min_interval_s=1, max_age_s=1, timeout_s=-0.99)
    assert (await refusal(keys, "old")).retry
    await keys.close()
