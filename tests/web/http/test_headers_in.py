"""Headers that were read too narrowly: spaces around a value, the scheme in another case."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.access.test_admission import ADMIN_TOKEN, guarded, token

SERVICE = "s" * 32
LISTED = "https://app.example.com"


async def ask(port: int, *lines: str, body: str = "") -> bytes:
    """A request by hand: libraries do not send what these are about."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("\r\n".join([*lines, "Connection: close", "", body]).encode())
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


async def test_a_last_event_id_with_spaces_around_it_was_refused(
    redis_server: Server, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 3)
    last = await backend.finish("42")
    async with Replica(redis_server.url) as replica:
        port = replica.settings.server.port
        for value in (f"  {ids[1]}", f"{ids[1]} ", f"\t {ids[1]}\t "):
            answer = await ask(
                port, "GET /sse/operations/42 HTTP/1.1", "Host: localhost", f"Last-Event-ID:{value}"
            )
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert f"id: {ids[2]}".encode() in answer
            assert f"id: {last}".encode() in answer
            assert f"id: {ids[0]}".encode() not in answer
        blank = await ask(
            port, "GET /sse/operations/42 HTTP/1.1", "Host: localhost", "Last-Event-ID:   "
        )
        assert f"id: {ids[0]}".encode() in blank


async def test_an_idempotency_key_with_spaces_around_it_was_refused(redis_server: Server) -> None:
    async with Replica(redis_server.url, publish={"token": SERVICE}) as replica:
        answer = await ask(
            replica.settings.server.port,
            "POST /operations/42/events HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {SERVICE}",
            "Idempotency-Key: one \t",
            "Content-Length: 14",
            body='{"type":"log"}',
        )
        assert answer.startswith(b"HTTP/1.1 201"), answer


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_bearer_in_another_case_was_refused(redis_server: Server, scheme: str) -> None:
    async with (
        guarded(redis_server, publish={"token": SERVICE}) as replica,
        httpx.AsyncClient(verify=False) as client,
    ):
        public = f"http://127.0.0.1:{replica.settings.server.port}"
        admin = f"http://127.0.0.1:{replica.settings.server.admin_port}"

        def bearer(text: str) -> dict[str, str]:
            return {"authorization": f"{scheme} {text}"}

        entry = {"type": "log", "data": {}}
        url = f"{public}/operations/42/events"
        answer = await client.post(url, headers=bearer(SERVICE), json=entry)
        assert answer.status_code == 201, answer.text
        answer = await client.get(url, headers=bearer(token("u")))
        assert answer.status_code == 200, answer.text
        answer = await client.get(f"{admin}/debug/state", headers=bearer(ADMIN_TOKEN))
        assert answer.status_code == 200, answer.text
        for path in ("/admin/users/u/disconnect", "/admin/operations/42/disconnect"):
            answer = await client.post(admin + path, headers=bearer(ADMIN_TOKEN))
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "given", ["", "Bearer", f"Basic {ADMIN_TOKEN}", ADMIN_TOKEN, f"Bearer {ADMIN_TOKEN}x"]
)
async def test_nothing_but_the_admin_token_opens_the_admin_port(
    redis_server: Server, given: str
) -> None:
    async with guarded(redis_server) as replica, httpx.AsyncClient(verify=False) as client:
        url = f"http://127.0.0.1:{replica.settings.server.admin_port}/debug/state"
        assert (await client.get(url, headers={"authorization": given})).status_code == 401


async def test_a_preflight_did_not_know_what_tracing_and_fetch_send(redis_server: Server) -> None:
    async with Replica(redis_server.url, auth={"origins": [LISTED]}) as replica:
        async with httpx.AsyncClient(verify=False) as client:
            answer = await client.options(
                f"http://127.0.0.1:{replica.settings.server.port}/sse/operations/42",
                headers={
                    "origin": LISTED,
                    "access-control-request-method": "GET",
                    "access-control-request-headers": "cache-control,traceparent,tracestate",
                },
            )
        allowed = answer.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
        assert {"cache-control", "traceparent", "tracestate", "last-event-id"} <= set(allowed)
