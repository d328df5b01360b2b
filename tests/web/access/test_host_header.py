"""Without sign-in a gateway is found by few names only: a page of any site can have its own name
resolve to 127.0.0.1.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica, quick_settings
from tests.harness.viewer import Viewer
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, refused, token
from tests.web.access.test_admission_http import PATHS
from tidegate.model.settings import ServerSettings
from tidegate.web.auth.host import HostRules
from tidegate.web.problem import Forbidden


def is_served(header: str | None, **server: object) -> bool:
    rules = HostRules(ServerSettings.model_validate({"auth": "none", **server}))
    try:
        rules.check([] if header is None else [(b"host", header.encode("latin-1"))])
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "localhost", "LOCALHOST:8080", "[::1]:8080"],
)
def test_loopback_is_always_served(host: str) -> None:
    assert is_served(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8080",
        "evil.localhost.example",
        "10.0.0.7:8080",
        "127.0.0.1, evil.example",
        "evil.example@127.0.0.1",
        "::1:8080:x",
        "2130706433",
        "0x7f.1",
        "",
        None,
    ],
)
def test_no_other_host_is_served(host: str | None) -> None:
    assert not is_served(host)
    assert not is_served(host, host="0.0.0.0")
    assert is_served(host, allowed_hosts=["*"])
    assert is_served(host, auth="jwt")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("gateway.internal", True),
        ("GATEWAY.internal:8080", True),
        ("x.gateway.internal", False),
        ("a.example.com", True),
        ("b.a.example.com:1", True),
        ("example.com", False),
        ("evilexample.com", False),
        ("10.0.0.7:8080", True),
        ("[fd00::7]:8080", True),
        ("192.0.2.1", True),
    ],
)
def test_configured_hosts_are_served(host: str, expected: bool) -> None:
    given = "gateway.internal,*.example.com,10.0.0.7,fd00::7"
    assert is_served(host, allowed_hosts=given, host="192.0.2.1") is expected


@pytest.mark.parametrize("host", ["gateway.internal:8080", "https://a", "a.*.com", "*.", "a b", ""])
def test_a_host_that_means_something_else_is_refused_as_a_setting(host: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        quick_settings("redis://h", server={"allowed_hosts": [host]})


def test_a_host_given_twice_is_refused() -> None:
    rules = HostRules(ServerSettings.model_validate({"auth": "none"}))
    with pytest.raises(Forbidden):
        rules.check([(b"host", b"localhost"), (b"host", b"localhost")])


async def test_without_sign_in_any_host_was_served(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    async with Replica(redis_server.url, server={"demo": True}) as replica:
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        async with httpx.AsyncClient(base_url=base, verify=False) as client:
            for path in (*PATHS, "/", "/demo.json"):
                answer = await client.get(path, headers={"host": "evil.example"})
                assert answer.status_code == 403, path
                assert answer.json()["code"] == "host"
                assert "server.allowed_hosts" in answer.json()["detail"]
                assert "evil" not in answer.text
            assert (await client.get("/")).status_code == 200
        said, close = await refused(
            Viewer(replica.url("42"), additional_headers={"Host": "evil.example"})
        )
        assert (said, close.code) == ("host", 4403)
        assert replica.viewers == 0


async def test_with_tokens_every_host_is_served(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    headers = {"host": "gateway.example", "authorization": f"Bearer {token('u')}"}
    async with guarded(redis_server) as replica, httpx.AsyncClient(verify=False) as client:
        url = f"http://127.0.0.1:{replica.settings.server.port}/operations/42"
        async with asyncio.timeout(60):
            assert (await client.get(url, headers=headers)).status_code == 200
