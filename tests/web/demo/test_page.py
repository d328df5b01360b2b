"""The files of the demo page, and what a browser is allowed to do with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tidegate.web.demo.page import page_files, replica_urls, sources

REPLICAS = ["http://127.0.0.1:8080", "http://127.0.0.1:8081"]


def port(replica: Replica) -> int:
    return replica.settings.server.port


@pytest.fixture
async def demo(redis_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Of a replica with the demo."""
    given: dict[str, Any] = {"demo": True, "demo_replicas": REPLICAS}
    async with (
        Replica(redis_server.url, server=given) as replica,
        plain_client(f"http://127.0.0.1:{port(replica)}") as client,
    ):
        yield client


async def test_the_page_runs_nothing_but_its_own_files(demo: httpx.AsyncClient) -> None:
    answer = await demo.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    said = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert said["default-src"] == "'none'"
    assert said["script-src"] == said["style-src"] == said["img-src"] == "'self'"
    assert said["connect-src"].split() == [
        "'self'",
        *("http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        *("http://127.0.0.1:8081", "ws://127.0.0.1:8081"),
    ]
    assert said["frame-ancestors"] == said["base-uri"] == said["form-action"] == "'none'"
    text = answer.text
    assert "<style" not in text
    assert " style=" not in text
    assert "://" not in text  # nothing from elsewhere
    assert text.count("<script") == 1
    assert 'src="demo/page.js"></script>' in text


async def test_each_file_has_its_type_and_is_asked_for_again(demo: httpx.AsyncClient) -> None:
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
    types |= {"svg": "image/svg+xml", "html": "text/html; charset=utf-8"}
    for name, file in page_files().by_name.items():
        answer = await demo.get(f"/demo/{name}")
        assert answer.status_code == 200, name
        assert answer.content == file.body
        assert answer.headers["content-type"] == types[name.rpartition(".")[2]]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        known = {"if-none-match": f'"other", {answer.headers["etag"]}'}
        again = await demo.get(f"/demo/{name}", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize(
    "path",
    ["/demo/", "/demo/page.py", "/demo/..%2fpage.py", "/demo/%2e%2e/app.py", "/demo/no.js"],
)
async def test_there_are_no_other_files(demo: httpx.AsyncClient, path: str) -> None:
    assert (await demo.get(path)).status_code == 404


async def test_the_description(demo: httpx.AsyncClient) -> None:
    answer = await demo.get("/demo.json", headers={"host": "localhost:8080"})
    assert answer.headers["cache-control"] == "no-store"
    shown = answer.json()
    assert shown["pod"] == "pod-1"
    assert shown["index"] == "demo"
    assert shown["key_prefix"] == "operation-progress:"
    # As the browser that asks reaches them.
    assert shown["replicas"] == ["http://localhost:8080", "http://localhost:8081"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("localhost:8080", "http://localhost:8081"),
        ("192.0.2.7:8080", "http://192.0.2.7:8081"),
        ("[fd00::7]:8080", "http://[fd00::7]:8081"),
        ("a b;script-src *", "http://127.0.0.1:8081"),
        ("'unsafe-inline'", "http://127.0.0.1:8081"),
        ("", "http://127.0.0.1:8081"),
    ],
)
def test_replicas_on_loopback_are_where_the_page_is(host: str, expected: str) -> None:
    elsewhere = "https://gateway.example"
    assert replica_urls(("http://127.0.0.1:8081", elsewhere), host) == [expected, elsewhere]


def test_what_is_no_address_does_not_get_into_the_policy() -> None:
    given = ["http://a;script-src", "https://b", "http://c,d", "http://e'f"]
    assert sources(given) == ["https://b", "wss://b"]


async def test_without_the_setting_there_is_no_page(redis_server: Server) -> None:
    async with (
        Replica(redis_server.url) as replica,
        plain_client(f"http://127.0.0.1:{port(replica)}") as client,
    ):
        for path in ("/", "/demo.json", "/demo/page.js"):
            assert (await client.get(path)).status_code == 404
        asked = await client.post(
            "/demo/operations", headers={"origin": f"http://127.0.0.1:{port(replica)}"}
        )
        assert asked.status_code == 404
