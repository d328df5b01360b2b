"""`tidegate token`, `tidegate token check`, and `tidegate watch` with a token."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cli.command import Done, finish, invoke, run, start
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.auth.http_server import HttpServer, Reply
from tests.web.auth.tokens import SECRET, by_hand, jwk, jwks, pem, private_key, signed

KEY = {"TIDEGATE_AUTH__SECRET": SECRET}


async def made(*arguments: str, **env: str) -> str:
    done = await invoke("token", "--sub", "user-1", *arguments, **(KEY | env))
    assert (done.code, done.err) == (0, ""), done
    return done.out.strip()


async def faults(token: str, *arguments: str, **env: str) -> list[str]:
    """The codes of what `check` finds."""
    done = await invoke("token", "check", "-", "--json", *arguments, stdin=token, **(KEY | env))
    report: dict[str, Any] = json.loads(done.out)
    codes = [fault["code"] for fault in report["faults"]]
    assert (report["accepted"], done.code) == (not codes, 1 if codes else 0)
    return codes


async def test_a_token_has_the_claims_that_the_settings_name() -> None:
    before = int(time.time())
    env = {
        "TIDEGATE_AUTH__ISSUER": "us",
        "TIDEGATE_AUTH__AUDIENCE": "gateway,other",
        "TIDEGATE_AUTH__OPERATIONS_CLAIM": "ops",
    }
    token = await made("--operations", "report-*,7", "--operations", "8", "--for", "30m", **env)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="gateway")
    assert (claims["sub"], claims["iss"], claims["aud"]) == ("user-1", "us", "gateway")
    assert claims["ops"] == ["report-*", "7", "8"]
    assert before + 1800 <= claims["exp"] <= time.time() + 1800
    assert await faults(token, **env) == []


@pytest.mark.parametrize("family", ["rsa", "p256", "ed25519"])
async def test_a_private_key_signs_and_its_public_key_checks(tmp_path: Path, family: str) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(
        private_key(family).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public.write_bytes(pem(family))
    token = (await invoke("token", "--sub", "a", "--key-file", str(private))).out.strip()
    done = await invoke("token", "check", token, TIDEGATE_AUTH__KEY_FILE=str(public))
    assert done.code == 0, done
    assert done.out.startswith("accepted\n")


async def test_keys_of_an_issuer_are_fetched() -> None:
    async with HttpServer(Reply(body=jwks(jwk("p256", "k1")))) as issuer:
        settings = {
            "TIDEGATE_AUTH__JWKS_URL": issuer.url,
            "TIDEGATE_AUTH__JWKS_ALLOW_HTTP": "true",
        }
        good = signed("ES256", "p256", headers={"kid": "k1"})
        assert (await run("token", "check", good, **settings)).code == 0
        other = signed("ES256", "p256", which=1, headers={"kid": "k1"})
        done = await run("token", "check", other, **settings)
        assert done.code == 1
        assert "signed with another key than auth.jwks_url" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--sub USER is missing"),
        (("--sub", "a", "--for", "1w"), "--for: must be a duration such as"),
        (("--sub", "a", "--for", "0s"), "--for: must be a duration such as"),
        (("--sub", "a", "--for", "9999999d"), "--for: must be a duration such as"),
        (("--sub", "a" * 257), "claim sub must be a user's id"),
        (("--sub", "a\x1b[2J"), "claim sub must be a user's id"),
        (("--sub", "a", "--operations", "x" * 257), "claim operations must be"),
        (("--sub", "a", "--operations", ",".join("abc" * 99)), "claim operations must be"),
        (("--sub", "a", "--key-file", "/nonexistent"), "/nonexistent cannot be read"),
        (("--sub", "a", "--key-file", __file__), "is no private key in PEM"),
        (
            ("--sub", "a", "--set", "auth.algorithms=HS512", "--set", "auth.secret=" + "s" * 40),
            "no",
        ),
    ],
)
async def test_what_a_gateway_would_refuse_is_not_made(
    arguments: tuple[str, ...], said: str
) -> None:
    done = await invoke("token", *arguments, **KEY)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


async def test_without_a_key_it_says_which_to_give() -> None:
    done = await invoke("token", "--sub", "a")
    assert done.code == 2
    assert "TIDEGATE_AUTH__SECRET" in done.err
    assert "--key-file" in done.err
    assert (await invoke("token", "check", "a.b.c")).code == 2
    assert (await invoke("token", "check", **KEY)).code == 2


NOW = time.time()


CASES: list[tuple[str, tuple[str, ...], list[str]]] = [
    (signed(), (), []),
    (signed(exp=NOW - 7200), (), ["expired"]),
    (signed(nbf=NOW + 7200), (), ["not_yet_valid"]),
    (signed(exp=None), (), ["bad_claim"]),
    (signed(sub=None), (), ["bad_claim"]),
    (signed(operations=7), (), ["bad_claim"]),
    (signed(aud="other"), ("auth.audience=us",), ["wrong_audience"]),
    (signed(aud="other"), (), ["wrong_audience"]),
    (signed(), ("auth.issuer=us",), ["wrong_issuer"]),
    (signed(key="x" * 64), (), ["bad_signature"]),
    (signed(key="x" * 64, exp=1, aud="a"), (), ["bad_signature", "expired", "wrong_audience"]),
    (signed("ES256", "p256"), (), ["unknown_key"]),
    (signed("HS512"), ("auth.algorithms=HS256",), ["bad_algorithm"]),
    (by_hand({"alg": "none"}, {"sub": "a", "exp": 1}), (), ["bad_algorithm", "expired"]),
    (by_hand({"alg": "HS256"}, b"\xff\x00"), (), ["bad_token"]),
    (by_hand([], {}), (), ["bad_token", "bad_claim"]),
    (by_hand({"alg": "HS256"}, {"sub": "a", "exp": 1e300}), (), ["bad_claim"]),
    ("abc", (), ["bad_token"]),
    ("..", (), ["bad_token"]),
    ("a.b.c.d", (), ["bad_token"]),
    ("x" * 9000, (), ["token_too_long"]),
    ("\x1b[2J.\udcff.\u2028".encode(errors="replace").decode(), (), ["bad_token"]),
]


# Signatures differ in each process, so they must not be part of a test's name.
@pytest.mark.parametrize(("token", "settings", "codes"), CASES, ids=range(len(CASES)))
async def test_what_is_wrong_with_a_token(
    token: str, settings: tuple[str, ...], codes: list[str]
) -> None:
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert list(dict.fromkeys(await faults(token, *arguments))) == codes


async def test_values_and_advice_stand_beside_the_verdict() -> None:
    token = signed(exp=NOW - 7200, aud="shop", iss="\x1b[2Jthem")
    done = await invoke(
        *("token", "check", token, "--set", "auth.audience=gw", "--set", "auth.issuer=us"), **KEY
    )
    assert done.code == 1
    assert "the token has expired: at 20" in done.out
    assert ", 2 h" in done.out
    assert 'aud is "shop"; accepted: gw' in done.out
    assert "auth.issuer is us" in done.out
    assert "\x1b" not in done.out
    assert token.rpartition(".")[2] not in done.out
    assert SECRET not in done.out + done.err


async def test_watch_shows_a_token(redis_server: Server, tmp_path: Path) -> None:
    jwt_settings: dict[str, Any] = {
        "server": {"auth": "jwt"},
        "auth": {"secret": SECRET},
        "source": {"kind": "claims"},
    }
    async with Replica(redis_server.url, **jwt_settings) as replica:
        async with redis_server.client() as client:
            await client.xadd("operation-progress:report-7", {"status": "completed"})
        url = ("--url", f"ws://127.0.0.1:{replica.settings.server.port}")
        token = await made("--operations", "report-*")
        file = tmp_path / "token"
        file.write_text(token + "\n")

        async def watched(*arguments: str, **env: str) -> Done:
            return await finish(await start("watch", "report-7", *url, *arguments, **env))

        assert (await watched("--token", token)).code == 0
        assert (await watched("--token-file", str(file))).code == 0
        assert (await watched(TIDEGATE_TOKEN=token)).code == 0
        without = await watched()
        assert without.code == 2
        assert "a token is required" in without.err
        other = await watched("--token", await made("--operations", "invoice-*"))
        assert other.code == 2
        assert "refused (4403)" in other.err


async def test_a_file_without_a_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in (b"", b"two words", b"\xff" * 10, b"x" * 9000):
        file.write_bytes(content)
        done = await invoke("watch", "42", "--token-file", str(file))
        assert done.code == 2
        assert f"{file} must hold one token" in done.err
    missing = await invoke("watch", "42", "--token-file", str(tmp_path / "none"))
    assert missing.code == 2
    assert "cannot be read" in missing.err
    assert (await invoke("watch", "42", "--token", "a b")).code == 2
