"""Keys that signatures are checked with, and which algorithms each of them is for.

The key alone decides: a secret is for HS, an RSA key for RS and PS, a curve for its one algorithm,
and a JWK's `alg` for exactly that. A token's header only picks among what the key allows, so
signing with a public key as if it were a secret, or with `none`, leads nowhere.

    secret  HS256 from 32 bytes, HS384 from 48, HS512 from 64       RFC 7518, 3.2
    RSA     RS256 RS384 RS512 PS256 PS384 PS512, 2048 to 8192 bits  RFC 7518, 3.3
    EC      P-256: ES256, P-384: ES384, P-521: ES512                RFC 7518, 3.4
    OKP     Ed25519, Ed448: EdDSA or the curve's name               RFC 8037, RFC 9864

What is weaker, or longer than makes sense, is refused with a text that names the reason and never
the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from tidegate.model.errors import TidegateError

KEYS_MAX = 64
RSA_MIN_BITS = 2048
RSA_MAX_BITS = 8192
#: A public exponent above this makes each check slow; 65537 is what everyone uses.
RSA_MAX_EXPONENT = 2**32
HS_MIN_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_JWK_NUMBER_MAX_LENGTH = 2048
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----.*?-----END \1-----", re.DOTALL)

PublicKey: TypeAlias = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)


class KeyUnusable(TidegateError):
    """A key that must not be, or cannot be, used; the text says why."""


class VerifyingKey(NamedTuple):
    """One key. `kid` is its id in a JWKS; `algorithms` are the only ones it is used with."""

    kid: str | None
    algorithms: frozenset[str]
    material: PublicKey | bytes

    def __repr__(self) -> str:
        return f"VerifyingKey({','.join(sorted(self.algorithms))})"


class KeySource(Protocol):
    """Where keys come from."""

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        """Keys that a token with this id may be signed with, perhaps none.

        Raises:
            Unauthenticated: with `retry`, when it cannot be told now.
        """

    async def run(self) -> None:
        """Keep the keys fresh until cancelled; returns when there is nothing to do."""

    async def close(self) -> None:
        """Give up what is open."""


class FixedKeys:
    """Keys that never change: a `KeySource` for secrets."""

    def __init__(self, keys: Sequence[VerifyingKey]) -> None:
        self._keys = keys

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:  # noqa: ARG002 - the port's
        """All of them: a secret has no id, whatever the token says."""
        return self._keys

    async def run(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing is open."""


def new_checker() -> PyJWS:
    """PyJWT's signature check, without `none` and with the names of RFC 9864."""
    checker = PyJWS(options={"enforce_minimum_key_length": True})
    checker.unregister_algorithm("none")
    for name in ("Ed25519", "Ed448"):
        checker.register_algorithm(name, OKPAlgorithm())
    return checker


def secret_key(secret: str) -> VerifyingKey:
    """The key of a shared secret. Raises KeyUnusable."""
    material = secret.encode(errors="surrogateescape")
    fitting = frozenset(name for name, least in HS_MIN_BYTES.items() if len(material) >= least)
    if not fitting:
        raise KeyUnusable(f"must have at least {HS_MIN_BYTES['HS256']} bytes")
    if b"-----BEGIN" in material or material.startswith((b"ssh-", b"ecdsa-sha2-")):
        raise KeyUnusable("contains a public key, which is not a secret: use auth.key_file")
    return VerifyingKey(None, fitting, material)


def pem_keys(document: bytes) -> tuple[VerifyingKey, ...]:
    """The public keys and certificates of a PEM file. Raises KeyUnusable: one bad key spoils all,
    because a person wrote this file.
    """
    found = []
    for match in _PEM.finditer(document):
        kind = match[1].decode()
        try:
            if kind == "CERTIFICATE":
                key: object = load_pem_x509_certificate(match[0]).public_key()
            elif kind in ("PUBLIC KEY", "RSA PUBLIC KEY"):
                key = load_pem_public_key(match[0])
            elif kind.endswith("PRIVATE KEY"):
                raise KeyUnusable("holds a private key: the gateway needs the public one only")
            elif kind == "EC PARAMETERS":  # openssl writes them before a key
                continue
            else:
                raise KeyUnusable(f"holds {kind}, which is not a public key")
        except (ValueError, UnsupportedAlgorithm):
            raise KeyUnusable(f"holds a {kind} that cannot be read") from None
        found.append(public_key(key))
    if not found:
        raise KeyUnusable("holds no PEM public key")
    if len(found) > KEYS_MAX:
        raise KeyUnusable(f"holds more than {KEYS_MAX} keys")
    return tuple(found)


def jwks_keys(document: bytes) -> tuple[tuple[VerifyingKey, ...], tuple[str, ...]]:
    """The usable keys of a JWK set (RFC 7517), and why the others are not used.

    Issuers publish keys for other purposes in the same set, so a key that cannot be used is passed
    over. Raises KeyUnusable: it is not a JWK set.
    """
    try:
        keys = orjson.loads(document)["keys"]
    except (ValueError, TypeError, LookupError):
        raise KeyUnusable("is not a JWK set") from None
    if not isinstance(keys, list):
        raise KeyUnusable("is not a JWK set")
    if len(keys) > KEYS_MAX:
        raise KeyUnusable(f"holds more than {KEYS_MAX} keys")
    found, passed_over = [], []
    for jwk in keys:
        try:
            found.append(_jwk_key(jwk))
        except KeyUnusable as error:
            passed_over.append(str(error))
    return tuple(found), tuple(passed_over)


def _jwk_key(jwk: object) -> VerifyingKey:
    if not isinstance(jwk, dict):
        raise KeyUnusable("is not a JSON object")
    kid, alg, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops")
    if kid is not None and not isinstance(kid, str):
        raise KeyUnusable("has a kid that is not a string")
    if jwk.get("use") not in (None, "sig"):
        raise KeyUnusable("is not for signatures")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise KeyUnusable("is not for verifying")
    key = public_key(_jwk_material(jwk))
    if alg is not None:
        if not isinstance(alg, str) or alg not in key.algorithms:
            raise KeyUnusable("has an alg that does not match the key")
        # The issuer says what it signs with; only EdDSA has two names (RFC 9864).
        if alg not in ("EdDSA", "Ed25519", "Ed448"):
            key = key._replace(algorithms=frozenset({alg}))
    return key._replace(kid=kid)


_JWK_KINDS: Mapping[str, tuple[type[Any], tuple[str, ...]]] = {
    "RSA": (RSAAlgorithm, ("n", "e")),
    "EC": (ECAlgorithm, ("crv", "x", "y")),
    "OKP": (OKPAlgorithm, ("crv", "x")),
}


def _jwk_material(jwk: dict[str, object]) -> Any:
    kty = jwk.get("kty")
    if kty == "oct":
        raise KeyUnusable("is a symmetric key, which must not be published")
    if not isinstance(kty, str) or kty not in _JWK_KINDS:
        raise KeyUnusable("has an unknown kty")
    kind, names = _JWK_KINDS[kty]
    # Only the public numbers: a private part, if there is one, is of no use here.
    numbers = {name: jwk.get(name) for name in names}
    if not all(isinstance(n, str) and len(n) <= _JWK_NUMBER_MAX_LENGTH for n in numbers.values()):
        raise KeyUnusable("has missing or oversized parameters")
    try:
        return kind.from_jwk({"kty": kty, **numbers})
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable("cannot be read") from None


def public_key(key: object) -> VerifyingKey:
    """A public key with the algorithms that it is for. Raises KeyUnusable."""
    match key:
        case rsa.RSAPublicKey():
            if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
                raise KeyUnusable(
                    f"is an RSA key of {key.key_size} bits; "
                    f"{RSA_MIN_BITS} to {RSA_MAX_BITS} are allowed"
                )
            if key.public_numbers().e > RSA_MAX_EXPONENT:
                raise KeyUnusable("is an RSA key with an exponent that is too large")
            return VerifyingKey(None, _RSA, key)
        case ec.EllipticCurvePublicKey():
            name = _CURVES.get(key.curve.name)
            if name is None:
                raise KeyUnusable(f"is on the curve {key.curve.name}; P-256, P-384, P-521 are used")
            return VerifyingKey(None, frozenset({name}), key)
        case ed25519.Ed25519PublicKey():
            return VerifyingKey(None, frozenset({"EdDSA", "Ed25519"}), key)
        case ed448.Ed448PublicKey():
            return VerifyingKey(None, frozenset({"EdDSA", "Ed448"}), key)
        case _:
            raise KeyUnusable("is of a type that cannot sign tokens")
