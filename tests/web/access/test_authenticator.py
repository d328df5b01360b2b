"""The gate as an endpoint uses it, and the settings that it is built from."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.web.auth.http_server import HttpServer, Reply
from tests.web.auth.tokens import SECRET, USER, jwk, jwks, pem, signed
from tidegate.cli.settings_source import load_settings
from tidegate.model.errors import SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.web.access.authenticator import Authenticator
from tidegate.web.auth.identity import ANONYMOUS
from tidegate.web.auth.sources import HashSource
from tidegate.web.problem import Forbidden, Refused, Unauthenticated

HOST = (b"host", b"gate.example")
OWN_PAGE = (b"origin", b"https://gate.example")
EVIL_PAGE = (b"origin", b"https://evil.example")
OPERATION = OperationId("job-1")


def gate(source: str | dict[str, Any] = "none", **auth: Any) -> Authenticator:
    source = {"kind": source} if isinstance(source, str) else source
    auth = auth or {"secret": SECRET}
    tree = {"server": {"auth": "jwt"}, "auth": auth, "source": source}
    return Authenticator(Settings.model_validate(tree))


def bearer(token: str) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer {token}".encode())


async def refusal(
    gate: Authenticator, *headers: tuple[bytes, bytes], query: bytes = b""
) -> Refused:
    with pytest.raises(Refused) as caught:
        await gate.authenticate(headers, [], query)
    return caught.value


async def test_with_auth_none_everybody_is_anonymous_but_not_every_page() -> None:
    open_gate = Authenticator(Settings.model_validate({"server": {"auth": "none"}}))
    await open_gate.run()
    for headers in ([HOST], [HOST, OWN_PAGE], [HOST, bearer("not.looked.at")]):
        assert await open_gate.authenticate(headers, [], b"") == (ANONYMOUS, None)
    error = await refusal(open_gate, HOST, EVIL_PAGE)
    assert (error.code, error.close.code) == ("origin", 4403)
    with pytest.raises(Unauthenticated):
        await open_gate.renew(signed())
    assert (await open_gate.authorise((await open_gate.authenticate([HOST], [], b"")), OPERATION))[
        0
    ] is None
    await open_gate.close()


async def test_a_good_token_from_a_good_page() -> None:
    principal = await gate().authenticate([HOST, OWN_PAGE], ["access_token." + signed()], b"")
    assert principal.identity.user == USER
    assert signed() not in repr(principal)


async def test_refusals_and_their_close_codes() -> None:
    keeper = gate()
    for headers, code, close in (
        ([HOST], "token_missing", 4401),
        ([HOST, OWN_PAGE], "token_missing", 4401),
        ([HOST, EVIL_PAGE, bearer(signed())], "origin", 4403),
        ([HOST, EVIL_PAGE], "origin", 4403),
        ([HOST, bearer("x.y.z")], "bad_token", 4401),
        ([HOST, bearer(signed(exp=1))], "expired", 4401),
        ([HOST, bearer(signed(key="k" * 64))], "bad_signature", 4401),
    ):
        error = await refusal(keeper, *headers)
        assert (error.code, error.close.code, error.retry) == (code, close, False)
    assert (await refusal(keeper, HOST, query=b"token=x.y.z")).code == "token_in_query"


async def test_a_renewed_token_is_verified_like_the_first() -> None:
    keeper = gate("claims")
    principal = await keeper.renew(signed(operations=["job-*"]))
    assert principal.identity.user == USER
    assert (await keeper.authorise(principal, OPERATION)).state is None
    for text in ("", "x", signed(exp=1), "a b"):
        with pytest.raises(Unauthenticated):
            await keeper.renew(text)
    with pytest.raises(Forbidden):
        await keeper.authorise(await keeper.renew(signed(operations=["other"])), OPERATION)


async def test_an_old_secret_is_believed_beside_the_new_one() -> None:
    keeper = gate(secret="n" * 64, previous_secret=SECRET)
    for key in (SECRET, "n" * 64):
        assert (await keeper.renew(signed(key=key))).identity.user == USER


@pytest.fixture
async def key_server() -> AsyncIterator[HttpServer]:
    async with HttpServer(Reply(body=jwks(jwk("ed25519", "k")))) as server:
        yield server


async def test_every_key_source(tmp_path: Path, key_server: HttpServer) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem("ed25519"))
    token = signed("EdDSA", "ed25519", headers={"kid": "k"})
    for auth in ({"key_file": path}, {"jwks_url": key_server.url, "jwks_allow_http": True}):
        keeper = gate(**auth)
        running = asyncio.create_task(keeper.run())
        assert (await keeper.renew(token)).identity.user == USER
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await keeper.close()


async def test_every_operation_source(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rule(user: str, operation: str) -> dict[str, Any]:
        return {"for": f"{user} {operation}"}

    module = types.ModuleType("gate_rules")
    vars(module)["rule"] = rule
    monkeypatch.setitem(sys.modules, "gate_rules", module)
    async with HttpServer(Reply(body=b'{"from": "http"}')) as server:
        for source, state in (
            ({"kind": "callable", "function": "gate_rules:rule"}, {"for": f"{USER} job-1"}),
            ({"kind": "http", "url": server.url, "timeout_s": 30}, {"from": "http"}),
            ({"kind": "none"}, None),
        ):
            keeper = gate(source)
            assert (await keeper.authorise(await keeper.renew(signed()), OPERATION)).state == state
            await keeper.close()
    with pytest.raises(SettingsError, match=r"source\.kind"):
        gate("redis")
    tree = {"server": {"auth": "none"}, "source": {"kind": "redis"}}

    class Hashes:
        async def read(self, operation: OperationId) -> None:
            return None

    assert isinstance(Authenticator(Settings.model_validate(tree), Hashes()).source, HashSource)


# -- settings ------------------------------------------------------------------------------------

JWT: dict[str, Any] = {"server": {"auth": "jwt"}, "source": {"kind": "none"}}
HTTPS = "https://id.example/keys"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, "server.auth: needs auth.secret, auth.key_file or auth.jwks_url"),
        ({"auth": {"secret": "s" * 31}}, "at least 32 bytes"),
        ({"auth": {"secret": pem("rsa").decode()}}, "is a PEM key"),
        ({"auth": {"previous_secret": "s" * 32}}, "auth.previous_secret: needs auth.secret"),
        ({"auth": {"secret": "s" * 32, "key_file": "k"}}, "auth.key_file: must not be given toge"),
        ({"auth": {"key_file": "k", "jwks_url": HTTPS}}, "auth.jwks_url: must not be given toget"),
        ({"auth": {"jwks_url": "http://id.example/keys"}}, "auth.jwks_url: must start with https"),
        ({"auth": {"jwks_url": "https://u:p@id.example/"}}, "jwks_url"),
        ({"auth": {"key_file": "k", "algorithms": ["HS256"]}}, "must not contain HS256"),
        ({"auth": {"jwks_url": HTTPS, "algorithms": ["ES256", "HS512"]}}, "must not contain HS512"),
        ({"auth": {"secret": "s" * 32, "algorithms": ["RS256"]}}, "must contain one of HS256"),
        ({"auth": {"secret": "s" * 32, "algorithms": ["none"]}}, "auth.algorithms"),
        ({"auth": {"secret": "s" * 32}, "source": {"kind": None}}, "source.kind: is required"),
        ({"source": {"kind": "http"}}, "source.kind: needs source.url"),
        ({"source": {"kind": "callable"}}, "source.kind: needs source.function"),
        ({"source": {"kind": "http", "url": "https://h/?a=b"}}, "source.url"),
        ({"source": {"kind": "http", "url": "https://u:p@h/"}}, "source.url"),
        ({"source": {"kind": "http", "url": "ftp://h/"}}, "source.url"),
        ({"source": {"kind": "callable", "function": "os.system"}}, "source.function"),
        ({"source": {"redis_prefix": "{tidegate}:x"}}, "source.redis_prefix: must not start"),
        (
            {"source": {"kind": "redis", "redis_prefix": "operation-progress:"}},
            "must differ from redis.key_prefix",
        ),
        ({"server": {"auth": "none"}, "source": {"kind": "claims"}}, "needs server.auth = jwt"),
        ({"auth": {"cookie": "a b"}}, "auth.cookie"),
    ],
)
def test_settings_that_do_not_go_together(tree: dict[str, Any], words: str) -> None:
    base: dict[str, Any] = {"auth": {"secret": SECRET}} if "source" in tree else {}
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(JWT | base | tree)
    assert words in str(caught.value)


def test_a_secret_too_short_for_its_algorithm() -> None:
    with pytest.raises(SettingsError, match=r"auth\.secret: must have at least 64 bytes for HS512"):
        gate(secret="s" * 63, algorithms=["HS512"])


def test_nothing_shows_the_secrets() -> None:
    given = {"TIDEGATE_AUTH__SECRET": SECRET, "TIDEGATE_AUTH__PREVIOUS_SECRET": SECRET + "2"}
    loaded = load_settings([], None, given)
    for text in (repr(loaded), str(loaded.settings), loaded.settings.model_dump_json()):
        assert SECRET not in text
    short: Callable[[], object] = lambda: load_settings(  # noqa: E731
        [], None, {"TIDEGATE_AUTH__SECRET": "hunter2", "TIDEGATE_SERVER__PORT": "x"}
    )
    with pytest.raises(SettingsError) as caught:
        short()
    assert "hunter2" not in str(caught.value)
    assert "auth.secret = ***: must have at least 32 bytes" in str(caught.value)
