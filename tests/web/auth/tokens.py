"""Real keys of every kind, and tokens signed with them; also by hand, where a library refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a secret of sixty-four bytes, which is what HS512 asks for: 0123456789"
USER = "ann"
FAMILIES = {
    "rsa": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "p256": ("ES256",),
    "p384": ("ES384",),
    "p521": ("ES512",),
    "ed25519": ("EdDSA",),
    "ed448": ("EdDSA",),
}
ASYMMETRIC = [(family, name) for family, names in FAMILIES.items() for name in names]
SYMMETRIC = ("HS256", "HS384", "HS512")


def private_key(family: str, which: int = 0) -> Any:
    """The private key of a family; another `which` is another key."""
    return _made(family, which)


@cache
def _made(family: str, which: int) -> Any:
    match family:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "rsa1024":
            return rsa.generate_private_key(65537, 1024)
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "p256k1":
            return ec.generate_private_key(ec.SECP256K1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
    raise LookupError(family, which)


def pem(family: str, which: int = 0) -> bytes:
    """The public key as PEM."""
    key = private_key(family, which).public_key()
    text: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


def jwk(family: str, kid: str | None = None, which: int = 0, **more: object) -> dict[str, object]:
    """The public key as a JWK; `more` adds members, None removes them."""
    key = private_key(family, which).public_key()
    kind: Any = {"rsa": RSAAlgorithm, "p": ECAlgorithm, "ed": OKPAlgorithm}[
        "rsa" if family.startswith("rsa") else family.rstrip("k0123456789")
    ]
    made: dict[str, object] = kind.to_jwk(key, as_dict=True)
    made.pop("key_ops", None)
    made |= {"kid": kid} | more
    return {name: value for name, value in made.items() if value is not None}


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**more: object) -> dict[str, object]:
    """Good claims; `more` replaces them, None removes them."""
    made = {"sub": USER, "exp": round(time.time()) + 3600} | more
    return {name: value for name, value in made.items() if value is not None}


def signed(
    algorithm: str = "HS256",
    family: str | None = None,
    which: int = 0,
    *,
    key: Any = None,
    headers: dict[str, object] | None = None,
    **more: object,
) -> str:
    """A token with good claims, changed by `more`."""
    if key is None:
        key = SECRET if family is None else private_key(family, which)
    return jwt.encode(claims(**more), key, algorithm, headers=headers)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: object, payload: object, key: str | bytes = SECRET) -> str:
    """Signed with HS256 whatever the header says; bytes go in as they are."""
    parts = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in (header, payload)]
    text = ".".join(map(b64, parts))
    material = key.encode() if isinstance(key, str) else key
    return f"{text}.{b64(hmac_sha256(material, text.encode()))}"


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, hashlib.sha256)
