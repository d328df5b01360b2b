"""Every algorithm with real keys, every hostile token that we could think of, and any other."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.web.auth.tokens import (
    ASYMMETRIC,
    SECRET,
    SYMMETRIC,
    USER,
    b64,
    by_hand,
    claims,
    hmac_sha256,
    pem,
    private_key,
    signed,
)
from tidegate.model.settings import AuthSettings
from tidegate.web.auth.credentials import Token
from tidegate.web.auth.identity import Identity
from tidegate.web.auth.keys import FixedKeys, VerifyingKey, pem_keys, secret_key
from tidegate.web.auth.verifier import TIME_MAX, Verifier, read_claims
from tidegate.web.problem import Unauthenticated

NOW = 1_800_000_000.0
SECRET_KEY = secret_key(SECRET)


def settings(**fields: object) -> AuthSettings:
    return AuthSettings.model_validate(fields)


def verify(token: str, keys: Sequence[VerifyingKey] = (SECRET_KEY,), **fields: object) -> Identity:
    verifier = Verifier(settings(**fields), FixedKeys(keys))
    return asyncio.run(verifier.verify(Token(token)))


def refusal(token: str, keys: Sequence[VerifyingKey] = (SECRET_KEY,), **fields: object) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(token, keys, **fields)
    text = str(caught.value)
    assert not any(len(part) > 8 and part in text for part in token.split("."))
    return caught.value.code


# -- signatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SYMMETRIC)
def test_every_symmetric_algorithm(algorithm: str) -> None:
    assert verify(signed(algorithm)).user == USER
    wrong = signed(
        algorithm, key="another secret of sixty-four bytes, for HS512 as well: 0123456789"
    )
    assert refusal(wrong) == "bad_signature"


@pytest.mark.parametrize(("family", "algorithm"), ASYMMETRIC)
def test_every_asymmetric_algorithm(family: str, algorithm: str) -> None:
    keys = pem_keys(pem(family))
    assert verify(signed(algorithm, family), keys).user == USER
    assert refusal(signed(algorithm, family, 1), keys) == "bad_signature"


@pytest.mark.parametrize("family", ["ed25519", "ed448"])
def test_the_names_of_rfc_9864(family: str) -> None:
    name = family.capitalize()
    head, body = (b64(json.dumps(part).encode()) for part in ({"alg": name}, claims()))
    signature = private_key(family).sign(f"{head}.{body}".encode())
    token = f"{head}.{body}.{b64(signature)}"
    assert verify(token, pem_keys(pem(family))).user == USER
    other = pem_keys(pem("ed448" if family == "ed25519" else "ed25519"))
    assert refusal(token, other) == "unknown_key"


def test_each_of_several_keys_is_tried() -> None:
    keys = pem_keys(pem("rsa", 1) + pem("p256") + pem("rsa"))
    assert verify(signed("RS256", "rsa"), keys).user == USER
    assert verify(signed("ES256", "p256"), keys).user == USER


def test_the_setting_narrows_the_algorithms() -> None:
    keys = pem_keys(pem("rsa"))
    assert refusal(signed("RS256", "rsa"), keys, algorithms=["PS256"]) == "bad_algorithm"
    assert verify(signed("PS256", "rsa"), keys, algorithms=["PS256"]).user == USER


def test_a_changed_token_is_refused() -> None:
    head, body, signature = signed().split(".")
    other = b64(json.dumps(claims(sub="bob")).encode())
    assert refusal(f"{head}.{other}.{signature}") == "bad_signature"
    assert refusal(f"{head}.{body}.{signature[:-4]}") == "bad_signature"
    assert refusal(f"{head}.{body}.AAAA") == "bad_signature"


# -- headers that try something ------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS1", "ES256K", "dir"])
def test_none_and_unknown_algorithms(algorithm: str) -> None:
    assert refusal(by_hand({"alg": algorithm}, claims())) == "bad_algorithm"


def test_an_unsigned_token() -> None:
    header, payload = b64(b'{"alg":"none"}'), b64(json.dumps(claims()).encode())
    text = f"{header}.{payload}."
    assert refusal(text) == "bad_token"
    assert refusal(text + "AAAA") == "bad_algorithm"


@pytest.mark.parametrize("family", ["rsa", "p256", "ed25519"])
@pytest.mark.parametrize("form", ["pem", "stripped", "der", "raw"])
def test_a_public_key_is_no_secret(family: str, form: str) -> None:
    # The classic: the public key is public, so sign with it as if it were the secret.
    text = pem(family)
    public = private_key(family).public_key()
    material = {
        "pem": text,
        "stripped": text.strip(),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "raw": b"".join(text.split(b"\n")[1:-2]),
    }[form]
    forged = by_hand({"alg": "HS256", "typ": "JWT"}, claims(), material)
    head, body, signature = forged.split(".")
    assert signature == b64(hmac_sha256(material, f"{head}.{body}".encode()))
    assert refusal(forged, pem_keys(text)) == "unknown_key"


def test_an_algorithm_of_another_family() -> None:
    assert refusal(signed("RS256", "rsa"), pem_keys(pem("p256"))) == "unknown_key"
    assert refusal(signed("ES256", "p256"), pem_keys(pem("p384"))) == "unknown_key"
    assert refusal(signed("RS256", "rsa")) == "unknown_key"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "kid": "../../etc/passwd"},
        {"alg": "HS256", "kid": "x' OR '1'='1"},
        {"alg": "HS256", "kid": "\x00\r\n"},
        {"alg": "HS256", "jku": "https://evil.example/keys", "x5u": "https://evil.example/"},
        {"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}},
        {"alg": "HS256", "x5c": ["AAAA"], "typ": "at+jwt", "cty": "JWT"},
    ],
)
def test_what_else_a_header_says_is_not_heard(header: dict[str, object]) -> None:
    assert verify(by_hand(header, claims())).user == USER
    assert refusal(by_hand(header, claims(), "evil" * 16)) == "bad_signature"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "HS256", "kid": 7}, "bad_token"),
        ({"alg": "HS256", "kid": ["a"]}, "bad_token"),
        ({"alg": "HS256", "kid": "k" * 257}, "bad_token"),
        ({"alg": ["HS256"]}, "bad_algorithm"),
        ({"alg": None}, "bad_algorithm"),
        ({"alg": {"HS256": 1}}, "bad_algorithm"),
        ({}, "bad_algorithm"),
        ([], "bad_token"),
        ("HS256", "bad_token"),
        (b"", "bad_token"),
        (b"{", "bad_token"),
        (b'{"alg":"HS256"', "bad_token"),
        (b'\xff{"alg":"HS256"}', "bad_token"),
        (b"[" * 3000, "bad_token"),
        # What PyJWT says is critical or detached.
        ({"alg": "HS256", "crit": ["exp"], "exp": 1}, "bad_signature"),
        ({"alg": "HS256", "crit": []}, "bad_signature"),
        ({"alg": "HS256", "b64": False, "crit": ["b64"]}, "bad_signature"),
    ],
)
def test_headers_that_are_refused(header: object, code: str) -> None:
    assert refusal(by_hand(header, claims())) == code


def test_two_algs_in_one_header_are_no_way_in() -> None:
    token = by_hand(b'{"alg":"none","alg":"HS256"}', claims())
    assert verify(token).user == USER
    assert refusal(by_hand(b'{"alg":"HS256","alg":"none"}', claims())) == "bad_algorithm"
    keys = pem_keys(pem("rsa"))
    assert refusal(by_hand(b'{"alg":"RS256","alg":"HS256"}', claims(), pem("rsa")), keys)
    assert refusal(by_hand(b'{"alg":"HS256","alg":"RS256"}', claims(), pem("rsa")), keys)


@pytest.mark.parametrize(
    "text",
    ["a", "a.b", "a.b.c.d", "a.b.c.d.e", ".b.c", "a..c", "a.b.", "a.b.c=", "a b.c.d", "é.b.c"],
)
def test_what_is_no_jwt(text: str) -> None:
    assert refusal(text) == "bad_token"


def test_a_token_in_a_token_and_a_jwe() -> None:
    nested = jwt.api_jws.encode(signed().encode(), SECRET, "HS256", headers={"cty": "JWT"})
    assert refusal(nested) == "bad_token"
    assert refusal(".".join([*signed().split("."), "a", "b"])) == "bad_token"


def test_too_long_is_refused_before_it_is_read() -> None:
    started = time.thread_time()  # others may have the processor meanwhile
    assert refusal("a" * 10_000_000 + ".b.c") == "bad_token"
    assert time.thread_time() - started < 0.5


# -- claims --------------------------------------------------------------------------------------


def read(now: float = NOW, /, **fields: object) -> Identity:
    """`auth_...` fields are settings, the others claims."""
    auth = {name[5:]: value for name, value in fields.items() if name.startswith("auth_")}
    body: dict[str, Any] = {"sub": USER, "exp": NOW + 100}
    body |= {name: value for name, value in fields.items() if not name.startswith("auth_")}
    body = {name: value for name, value in body.items() if value is not ...}
    return read_claims(json.dumps(body).encode(), settings(**auth), now)


def refused(now: float = NOW, /, **fields: object) -> str:
    with pytest.raises(Unauthenticated) as caught:
        read(now, **fields)
    assert not caught.value.retry
    return caught.value.code


def test_what_an_identity_is() -> None:
    assert read() == Identity(USER, NOW + 110, None, None)
    assert read(connection_limit=3, operations=["a", "b-*"]) == Identity(
        USER, NOW + 110, 3, ("a", "b-*")
    )
    assert read(cancel_operations="a b-*").cancels == ("a", "b-*")
    assert read(stop=["a"], auth_cancel_claim="stop").cancels == ("a",)
    assert read(stop=["a"]).cancels is None


def test_exp_to_the_edge_of_the_leeway() -> None:
    end = NOW + 100
    assert read(end + 9.999).expires_at == end + 10
    assert refused(end + 10) == "expired"
    assert read(end - 0.001, auth_leeway_s=0).expires_at == end
    assert refused(end, auth_leeway_s=0) == "expired"


def test_nbf_to_the_edge_of_the_leeway() -> None:
    assert read(nbf=NOW + 10).user == USER
    assert refused(nbf=NOW + 10.001) == "not_yet_valid"
    assert refused(nbf=NOW + 1, auth_leeway_s=0) == "not_yet_valid"
    assert read(nbf=0).user == USER


def test_exp_may_be_missing_only_when_that_was_said() -> None:
    assert refused(exp=...) == "bad_claim"
    assert read(exp=..., auth_require_exp=False).expires_at is None
    assert refused(NOW + 1000, auth_require_exp=False) == "expired"


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize(
    "value",
    [None, True, False, "1900000000", [], {}, -1, -0.5, TIME_MAX + 1, 1e300, 10**30, 2**64],
)
def test_times_of_a_wrong_kind_or_size(name: str, value: object) -> None:
    assert refused(**{name: value}) == "bad_claim"
    assert refused(**{name: value}, auth_require_exp=False) == "bad_claim"


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000])
def test_numbers_that_are_none(value: bytes) -> None:
    with pytest.raises(Unauthenticated):
        read_claims(b'{"sub":"ann","exp":%b}' % value, settings(), NOW)


def test_milliseconds_are_no_seconds() -> None:
    assert refused(exp=(NOW + 100) * 1000) == "bad_claim"


def test_issuer() -> None:
    assert read(iss="https://other").user == USER
    assert read(iss="https://id", auth_issuer="https://id").user == USER
    for wrong in (..., "https://id/", "https://evil", ["https://id"], None, 7):
        assert refused(iss=wrong, auth_issuer="https://id") == "wrong_issuer"


def test_audience() -> None:
    mine = ["tidegate", "tg2"]
    assert read().user == USER
    assert read(aud=[]).user == USER
    for right in ("tidegate", ["x", "tg2"]):
        assert read(aud=right, auth_audience=mine).user == USER
    for wrong in (..., [], "x", ["x", "y"], "tidegate,tg2"):
        assert refused(aud=wrong, auth_audience=mine) == "wrong_audience"
    # RFC 7519, 4.1.3: meant for somebody, and that is not us.
    assert refused(aud="x") == "wrong_audience"
    for broken in (7, {"a": 1}, [7], ["tidegate", None], True, None):
        assert refused(aud=broken, auth_audience=mine) == "bad_claim"


@pytest.mark.parametrize(
    ("value", "user"),
    [("ann", "ann"), ("u" * 256, "u" * 256), ("Åsa 李", "Åsa 李"), (42, "42"), ("{x}*?", "{x}*?")],
)
def test_users(value: object, user: str) -> None:
    assert read(sub=value).user == user


@pytest.mark.parametrize(
    "value",
    [
        *(..., None, "", "u" * 257, "a\nb", "a\x00", "\x1b[31m", "\u2028", "\u202e", "a\u200bb"),
        *(True, 1.5, [], ["ann"], {}, 2**64),
    ],
)
def test_users_that_are_none(value: object) -> None:
    assert refused(sub=value) == "bad_claim"


def test_a_lone_surrogate_is_no_json() -> None:
    with pytest.raises(Unauthenticated):
        read_claims(b'{"sub":"\\ud800","exp":1900000000}', settings(), NOW)


@pytest.mark.parametrize("value", [None, True, "3", 1.0, -1, 1_000_001, [], 10**400])
def test_a_limit_that_is_none_is_refused_and_not_ignored(value: object) -> None:
    assert refused(connection_limit=value) in ("bad_claim", "bad_token")


def test_a_limit_of_zero_is_kept() -> None:
    assert read(connection_limit=0).limit == 0


@pytest.mark.parametrize(
    ("value", "operations"),
    [([], ()), ("", ()), ("a b-*", ("a", "b-*")), (["*"], ("*",)), (["a"] * 256, ("a",) * 256)],
)
def test_operations(value: object, operations: tuple[str, ...]) -> None:
    assert read(operations=value).operations == operations


@pytest.mark.parametrize(
    "value", [None, 7, True, {}, [7], ["a", None], [""], ["a"] * 257, ["a" * 257], [["a"]]]
)
def test_operations_that_are_none(value: object) -> None:
    assert refused(operations=value) == "bad_claim"


def test_names_of_claims_are_settings() -> None:
    found = read(
        **{"https://x/uid": 7, "ops": "a", "max": 1, "operations": 7, "connection_limit": "x"},
        auth_user_claim="https://x/uid",
        auth_operations_claim="ops",
        auth_limit_claim="max",
    )
    assert found == Identity("7", NOW + 110, 1, ("a",))


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'"a"', b"{", b"[" * 5000, b"\xff"])
def test_payloads_that_are_no_claims(payload: bytes) -> None:
    if payload:
        assert refusal(by_hand({"alg": "HS256"}, payload)) == "bad_token"
    with pytest.raises(Unauthenticated):
        read_claims(payload, settings(), NOW)


# -- anything ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
CLAIM = st.sampled_from(["sub", "exp", "nbf", "iss", "aud", "operations", "connection_limit"])
STRICT = Verifier(
    settings(issuer="https://id", audience=["a"], require_exp=True),
    FixedKeys([SECRET_KEY, *pem_keys(pem("rsa") + pem("p256") + pem("ed25519"))]),
)
LOOSE = Verifier(settings(require_exp=False), FixedKeys([SECRET_KEY]))


def answered(token: str) -> None:
    for verifier in (STRICT, LOOSE):
        coroutine = verifier.verify(Token(token))
        try:
            coroutine.send(None)
        except StopIteration as done:
            identity: Identity = done.value
            assert 0 < len(identity.user) <= 256
            assert identity.user.isprintable()
            assert identity.limit is None or identity.limit >= 0
        except Unauthenticated:
            pass


@hypothesis_settings(deadline=None)
@given(
    st.text() | st.lists(st.binary(max_size=40), max_size=5).map(lambda p: ".".join(map(b64, p)))
)
@example("..")
def test_any_text(token: str) -> None:
    answered(token)


@hypothesis_settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "x"]), JSON)
    | JSON
    | st.binary(max_size=40),
    st.dictionaries(CLAIM, JSON) | JSON | st.binary(max_size=40),
)
def test_any_header_and_payload_with_a_right_signature(header: object, payload: object) -> None:
    answered(by_hand(header, payload))
    if isinstance(payload, dict):
        answered(by_hand({"alg": "HS256"}, claims() | payload))


@hypothesis_settings(deadline=None)
@given(st.data())
def test_a_good_token_with_some_bytes_changed(data: st.DataObject) -> None:
    token = bytearray(signed("ES256", "p256").encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(token) - 1))
        token[at] = data.draw(st.sampled_from(b"ABCabc019-_.=") | st.integers(32, 126))
    answered(token.decode())


def test_base64_with_padding_or_line_ends_is_no_second_spelling() -> None:
    head, body, signature = signed().split(".")
    for spelling in (
        f"{head}={body}",
        f"{head}\n.{body}.{signature}",
        f"{head}.{body}.{signature}=",
    ):
        assert refusal(spelling) == "bad_token"
    assert base64.urlsafe_b64decode(head + "==")
