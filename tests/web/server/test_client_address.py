"""The client's address from `X-Forwarded-For`: only a proxy's word counts, and only an address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tidegate.model.settings import ServerSettings
from tidegate.web.server.client_address import ClientAddress

PROXY = "10.0.0.2"
TRUSTED = ("10.0.0.0/8", "2001:db8:1::/48")
LONG = 5_000


async def seen(peer: str, *forwarded: bytes, trusted: Sequence[str] = TRUSTED) -> tuple[str, int]:
    """The client that the application sees of a request from `peer`, port 7."""
    found: list[tuple[str, int]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope["client"])

    unused: Any = None
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    scope = {"type": "http", "client": (peer, 7), "scheme": "http", "headers": headers}
    await ClientAddress(app, trusted)(scope, unused, unused)
    return found[0]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([b"192.0.2.1"], ("192.0.2.1", 0)),
        ([b"203.0.113.9, 192.0.2.1"], ("192.0.2.1", 0)),
        ([b"203.0.113.9", b"192.0.2.1"], ("192.0.2.1", 0)),
        ([b"192.0.2.1, 10.1.2.3"], ("192.0.2.1", 0)),
        ([b"203.0.113.9, 192.0.2.1, 10.1.2.3,10.9.9.9"], ("192.0.2.1", 0)),
        ([b"192.0.2.1:4711"], ("192.0.2.1", 4711)),
        ([b"[2001:db8::1]:4711"], ("2001:db8::1", 4711)),
        ([b"2001:DB8:0::1"], ("2001:db8::1", 0)),
        ([b"192.0.2.1, 2001:db8:1::5"], ("192.0.2.1", 0)),
        ([b"::ffff:192.0.2.1"], ("192.0.2.1", 0)),
        ([b"192.0.2.1, ::ffff:10.1.2.3"], ("192.0.2.1", 0)),
        ([b"[2001:db8::1]"], ("2001:db8::1", 0)),
        ([b"192.0.2.1 , 10.1.2.3:80"], ("192.0.2.1", 0)),
        ([b"10.1.2.3"], ("10.1.2.3", 0)),
    ],
)
async def test_the_last_address_that_is_no_proxys(
    forwarded: list[bytes], client: tuple[str, int]
) -> None:
    assert await seen(PROXY, *forwarded) == client
    assert await seen(f"::ffff:{PROXY}", *forwarded) == client  # of a socket on `::`


@pytest.mark.parametrize(
    "forwarded",
    [
        b"",
        b" , ",
        b"unknown",
        b"_hidden",
        b"192.0.2.1, unknown",
        b"192.0.2.1, 192.0.2.1.evil.example",
        b"\xff\xfe",
        b"\x00",
        b"192.0.2.1/24",
        b"3221225985",
        b"fe80::1%eth0\r\nX: y",
        b"[2001:db8::1",
        b"[2001:db8::1]x",
        b"," * LONG,
        b"1" * LONG,
        b"192.0.2.1:" + b"1" * LONG,
    ],
)
async def test_what_is_no_address_is_not_taken_for_one(forwarded: bytes) -> None:
    assert await seen(PROXY, forwarded) == (PROXY, 7)


@pytest.mark.parametrize("port", [b"70000", b"-1", b"9" * 4_000])
async def test_a_port_that_is_none(port: bytes) -> None:
    assert await seen(PROXY, b"192.0.2.1:" + port) == ("192.0.2.1", 0)


@pytest.mark.parametrize("peer", ["192.0.2.7", "11.0.0.1", "::1", "2001:db8:2::1"])
async def test_nobody_else_is_believed(peer: str) -> None:
    assert await seen(peer, b"203.0.113.9") == (peer, 7)


async def test_without_the_header_it_is_the_peer() -> None:
    assert await seen(PROXY) == (PROXY, 7)


def trusted_of(value: object) -> tuple[str, ...]:
    return ServerSettings.model_validate({"forwarded_allow_ips": value}).forwarded_allow_ips


def test_addresses_and_networks() -> None:
    assert trusted_of("10.0.0.0/8, ::1") == ("10.0.0.0/8", "::1")
    assert trusted_of(["2001:DB8::/32", "127.0.0.1"]) == ("2001:db8::/32", "127.0.0.1")
    assert trusted_of("") == ()


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "gateway.internal",
        "10.0.0.256",
        "::1%lo",
        ["::1"] * 65,
    ],
)
def test_nothing_else(value: object) -> None:
    with pytest.raises(ValidationError):
        trusted_of(value)


@pytest.mark.parametrize("trusted", ["", "127.0.0.1"])
async def test_whose_rate_it_is(redis_server: Server, backend: Backend, trusted: str) -> None:
    await backend.publish("42")
    server = {"forwarded_allow_ips": trusted}
    async with (
        Replica(redis_server.url, server=server) as replica,
        plain_client(f"http://127.0.0.1:{replica.settings.server.port}") as client,
    ):
        rates = replica.runtime._cancels._rates
        rates._settings = rates._settings.model_copy(update={"user_per_s": 0.0, "user_burst": 1})

        async def ask(forwarded: str) -> int:
            answer = await client.post(
                "/operations/42/cancel", headers={"X-Forwarded-For": forwarded}
            )
            return answer.status_code

        assert await ask("192.0.2.1") == 202
        assert await ask("192.0.2.1") == 429
        assert await ask("203.0.113.9, 192.0.2.1") == 429
        assert await ask("192.0.2.2") == (202 if trusted else 429)
