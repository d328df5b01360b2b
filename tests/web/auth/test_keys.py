"""What each kind of key is for, and which keys are refused, with which words."""

import json
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.servers.tls import Certificates
from tests.web.auth.tokens import FAMILIES, jwk, jwks, pem, private_key
from tidegate.web.auth.keys import (
    KEYS_MAX,
    KeyUnusable,
    jwks_keys,
    new_checker,
    pem_keys,
    secret_key,
)

ALSO_NAMED = {"ed25519": {"Ed25519"}, "ed448": {"Ed448"}}


def expected(family: str) -> set[str]:
    return set(FAMILIES[family]) | ALSO_NAMED.get(family, set())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_key_says_what_it_is_for(family: str) -> None:
    (from_pem,) = pem_keys(pem(family))
    (from_jwk,), _ = jwks_keys(jwks(jwk(family, "k1")))
    assert from_pem.algorithms == from_jwk.algorithms == expected(family)
    assert (from_pem.kid, from_jwk.kid) == (None, "k1")
    assert from_pem.material == from_jwk.material


def test_a_jwk_with_alg_is_for_that_alone() -> None:
    (key,), _ = jwks_keys(jwks(jwk("rsa", "k", alg="PS384")))
    assert key.algorithms == {"PS384"}
    for alg in ("EdDSA", "Ed25519"):
        (key,), _ = jwks_keys(jwks(jwk("ed25519", "k", alg=alg)))
        assert key.algorithms == {"EdDSA", "Ed25519"}


@pytest.mark.parametrize(
    ("size", "algorithms"),
    [
        (32, {"HS256"}),
        (48, {"HS256", "HS384"}),
        (64, {"HS256", "HS384", "HS512"}),
    ],
)
def test_a_secret_is_for_what_it_is_long_enough_for(size: int, algorithms: set[str]) -> None:
    assert secret_key("x" * size).algorithms == algorithms


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("x" * 31, "at least 32 bytes"),
        (pem("rsa").decode(), "contains a public key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKtestkeytestkey", "contains a public key"),
    ],
)
def test_secrets_that_are_refused(secret: str, words: str) -> None:
    with pytest.raises(KeyUnusable, match=words) as caught:
        secret_key(secret)
    assert secret not in str(caught.value)


def test_several_keys_and_certificates_in_one_file(certificates: Certificates) -> None:
    certificate = certificates.server_cert_file.read_bytes()
    document = b"the new one\n" + pem("rsa") + b"\nthe old one\n" + certificate + pem("ed25519")
    keys = pem_keys(document)
    assert len(keys) == 2 + certificate.count(b"BEGIN")
    held = x509.load_pem_x509_certificate(certificate).public_key()
    assert keys[1].material == held


def private_pem(family: str) -> bytes:
    key = private_key(family)
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "no PEM public key"),
        (b"ssh-rsa AAAA", "no PEM public key"),
        (private_pem("rsa"), "private key"),
        (pem("rsa") + private_pem("p256"), "private key"),
        (pem("rsa1024"), "RSA key of 1024 bits"),
        (pem("p256k1"), "curve secp256k1"),
        (pem("rsa").replace(b"M", b"!"), "cannot be read"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read"),
        (b"-----BEGIN X-----\nAAAA\n-----END X-----", "no PEM public key|not a public key"),
        (pem("p256") * (KEYS_MAX + 1), "more than 64 keys"),
    ],
)
def test_pem_files_that_are_refused(document: bytes, words: str) -> None:
    with pytest.raises(KeyUnusable, match=words):
        pem_keys(document)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (7, "not a JSON object"),
        (jwk("rsa1024", "k"), "1024 bits"),
        (jwk("p256", "k", crv="P-384"), "cannot be read"),
        (jwk("p256k1", "k"), "curve secp256k1"),
        (jwk("rsa", "k", use="enc"), "not for signatures"),
        (jwk("rsa", "k", key_ops=["encrypt"]), "not for verifying"),
        (jwk("rsa", "k", key_ops="verify"), "not for verifying"),
        (jwk("rsa", "k", alg="ES256"), "alg that does not match"),
        (jwk("rsa", "k", alg="HS256"), "alg that does not match"),
        (jwk("rsa", "k", alg="none"), "alg that does not match"),
        (jwk("rsa", "k", alg=["RS256"]), "alg that does not match"),
        (jwk("rsa", "k", kty="oct", k="c2VjcmV0"), "is a symmetric key"),
        (jwk("rsa", "k", kty="XYZ"), "unknown kty"),
        (jwk("rsa", "k", kty=["RSA"]), "unknown kty"),
        (jwk("rsa", "k", n=None), "missing or oversized"),
        (jwk("rsa", "k", n=5), "missing or oversized"),
        (jwk("rsa", "k", n="A" * 3000), "missing or oversized"),
        (jwk("rsa", "k", n="!"), "cannot be read|bits"),
        (jwk("rsa", "k", e="AQ"), "cannot be read"),
        (jwk("rsa", "k", e="AQAAAAAAAAAB"), "exponent that is too large"),
        (jwk("ed25519", "k", crv="X25519"), "cannot be read"),
        (jwk("ed25519", 7), "kid that is not a string"),  # type: ignore[arg-type]
    ],
)
def test_jwks_with_a_key_that_cannot_be_used(key: object, why: str) -> None:
    found, (said,) = jwks_keys(jwks(key, jwk("p256", "good")))
    assert [one.kid for one in found] == ["good"]
    assert re.search(why, said), said


def test_only_the_public_part_of_a_jwk_is_taken() -> None:
    full = jwk("ed25519", "k", d="AAAA", x5c=["junk"], oth=[])
    (key,), passed_over = jwks_keys(jwks(full))
    assert not passed_over
    assert key.material == private_key("ed25519").public_key()


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"x", b"[]", b"{}", b'{"keys": 1}', b'{"keys": {}}', b"null", b'{"keys": NaN}'),
        json.dumps({"keys": [{}] * (KEYS_MAX + 1)}).encode(),
    ],
)
def test_what_is_no_jwk_set(document: bytes) -> None:
    with pytest.raises(KeyUnusable):
        jwks_keys(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
)
MEMBERS = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "d"])


@hypothesis_settings(deadline=None)
@given(st.sampled_from([*FAMILIES]), st.dictionaries(MEMBERS, JSON, max_size=3))
def test_a_jwk_with_anything_in_it_is_used_or_passed_over(
    family: str, changes: dict[str, object]
) -> None:
    found, passed_over = jwks_keys(jwks(jwk(family, "k") | changes))
    assert len(found) + len(passed_over) == 1
    if found and found[0].algorithms:
        assert found[0].algorithms <= expected(family)


def test_the_checker_knows_no_none_and_a_key_is_not_shown() -> None:
    assert "none" not in new_checker().get_algorithms()
    assert repr(secret_key("x" * 64)) == "VerifyingKey(HS256,HS384,HS512)"
