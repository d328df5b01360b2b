"""A token in a cookie: browsers add it to requests of pages that know nothing of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.servers.standalone import Server
from tests.web.access.test_admission import AUTH, guarded, refused, token
from tests.web.access.test_admission_http import PATHS

LISTED = "https://app.example.com"


@pytest.fixture
async def replica(redis_server: Server, backend: Backend) -> AsyncIterator[Replica]:
    await backend.finish("42")
    auth = AUTH | {"cookie": "session", "origins": [LISTED]}
    async with guarded(redis_server, auth=auth) as replica:
        yield replica


def base(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


def with_cookie(text: str, **headers: str) -> dict[str, str]:
    return {"cookie": f"session={text}", **{k.replace("_", "-"): v for k, v in headers.items()}}


FOREIGN: list[dict[str, str]] = [
    {},  # an old browser, or http:// and no loopback
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "same-origin, none"},
    {"sec_fetch_site": ""},
]
OWN: list[dict[str, str]] = [
    {"sec_fetch_site": "same-origin"},
    {"sec_fetch_site": "none"},
    {"origin": LISTED, "sec_fetch_site": "cross-site"},
    {"origin": LISTED},
]


async def test_an_image_on_a_foreign_page_took_the_victims_slots(replica: Replica) -> None:
    async with httpx.AsyncClient(base_url=base(replica), verify=False) as client:
        for path, more in itertools.product(PATHS, FOREIGN):
            answer = await client.get(path, headers=with_cookie(token("u"), **more))
            assert (answer.status_code, answer.json()["code"]) == (403, "origin"), (path, more)
            assert len(replica.runtime._admission) == 0


async def test_pages_that_may_use_the_cookie(replica: Replica) -> None:
    async with httpx.AsyncClient(base_url=base(replica), verify=False) as client:
        for path, more in itertools.product(PATHS, OWN):
            answer = await client.get(path, headers=with_cookie(token("u"), **more))
            assert answer.status_code == 200, (path, more)


async def test_a_token_that_is_in_a_header_too_was_put_there_by_the_page(replica: Replica) -> None:
    text = token("u")
    headers = with_cookie(text, authorization=f"Bearer {text}", sec_fetch_site="cross-site")
    async with httpx.AsyncClient(base_url=base(replica), verify=False) as client:
        assert (await client.get("/operations/42", headers=headers)).status_code == 200


async def test_a_socket_with_a_cookie_and_no_origin_is_refused(replica: Replica) -> None:
    cookie = with_cookie(token("u"))
    said, close = await refused(Viewer(replica.url("42"), additional_headers=cookie))
    assert (said, close.code) == ("origin", 4403)
    url = f"{base(replica).replace('http', 'ws')}/ws"
    async with asyncio.timeout(60), connect(url, additional_headers=cookie) as socket:
        await socket.wait_closed()
        assert socket.close_code == 4403


ANSWERS = [
    ("GET", "/operations/42", 200),
    ("GET", "/operations/42/events", 200),
    ("GET", "/sse/operations/42", 200),
    ("POST", "/sse/operations/42", 405),
    ("GET", "/operations/%20", 400),
    ("GET", "/nothing/here", 404),
    ("DELETE", "/operations/42", 403),
    ("OPTIONS", "/operations/42", 204),
]


async def test_answers_could_be_taken_for_a_script_or_an_image_by_any_page(
    replica: Replica,
) -> None:
    async with httpx.AsyncClient(base_url=base(replica), verify=False) as client:
        for method, path, status in ANSWERS:
            headers = {"origin": LISTED, "authorization": f"Bearer {token('u')}"}
            if method == "OPTIONS":
                headers["access-control-request-method"] = "GET"
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == status, path
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
            assert answer.headers.get_list("cross-origin-resource-policy") == ["same-origin"]


async def test_the_admin_ports_answers_say_it_as_well(replica: Replica) -> None:
    for path in ("/healthz", "/metrics", "/debug/state", "/nothing"):
        answer = await replica.admin(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
