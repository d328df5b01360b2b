"""What a client is told while Redis cannot be reached: ours, short, and nothing of the inside."""

from __future__ import annotations

import httpx
import pytest

from tests.harness.replica import Replica
from tests.servers.ports import free_port
from tests.web.access.test_admission import ADMIN_TOKEN

SERVICE = "s" * 32
ENTRY = '{"type":"log","data":{}}'

CALLS = [
    ("GET", "/operations/42", ""),
    ("GET", "/operations/42/events", ""),
    ("GET", "/operations/42/events?wait=1", ""),
    ("POST", "/operations/42/events", ENTRY),
    ("DELETE", "/operations/42", ""),
]
ADMIN_CALLS = [
    ("POST", "/admin/users/u/disconnect"),
    ("POST", "/admin/users/u/disconnect?token_id=x"),
    ("POST", "/admin/operations/42/disconnect"),
    ("GET", "/debug/operations/42"),
]


@pytest.mark.parametrize("kind", ["sentinel", "alone", "cluster"])
async def test_dead_sentinels_answered_with_pool_options_and_addresses(kind: str) -> None:
    port = free_port()
    url = {
        "sentinel": f"redis+sentinel://127.0.0.1:{port}/primary",
        "alone": f"redis://127.0.0.1:{port}",
        "cluster": f"redis+cluster://127.0.0.1:{port}",
    }[kind]
    inside = ("127.0.0.1", str(port), "Pool", "host=", "<", "Errno", "redis.", "Error")
    own = {"admin_token": ADMIN_TOKEN}
    async with (
        Replica(url, wait_for_redis=False, server=own, publish={"token": SERVICE}) as replica,
        httpx.AsyncClient(verify=False, timeout=60) as client,
    ):
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        service = {"authorization": f"Bearer {SERVICE}", "content-type": "application/json"}
        for method, path, body in CALLS:
            answer = await client.request(method, base + path, content=body, headers=service)
            assert answer.status_code == 503, (path, answer.text)
            told = answer.json()
            assert told["code"] in ("redis_unavailable", "uncertain"), path
            assert not [word for word in inside if word in told["detail"]], told
            assert len(answer.content) < 400
        base = f"http://127.0.0.1:{replica.settings.server.admin_port}"
        admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        for method, path in ADMIN_CALLS:
            answer = await client.request(method, base + path, headers=admin)
            assert answer.status_code == 503, (path, answer.text)
            assert not [word for word in inside if word in answer.json()["detail"]], answer.text


async def test_our_own_mistake_was_told_as_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with (
        Replica(url, wait_for_redis=False) as replica,
        httpx.AsyncClient(verify=False, timeout=60) as client,
    ):

        async def broken(*args: object, **more: object) -> None:
            raise LookupError("hunter2")

        monkeypatch.setattr(replica.hub.reader, "state", broken)
        monkeypatch.setattr(replica.runtime._admission._authenticator, "authenticate", broken)
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        for path in ("/operations/42", "/sse/operations/42"):
            answer = await client.get(base + path)
            assert answer.status_code == 500
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "internal_error"
            assert "hunter2" not in answer.text
