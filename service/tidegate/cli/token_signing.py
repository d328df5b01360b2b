"""Making a viewer's token: claims, and the key that they are signed with.

For first steps, scripts and tests. In production the issuer of the tokens is the application that
knows its users. What is made here is checked with the gateway's own reader of claims before it is
signed, so a token that this gateway would refuse is never made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tidegate.model.errors import InvalidRequest, SettingsError
from tidegate.model.settings import AuthSettings
from tidegate.web.auth.keys import KeyUnusable, public_key, secret_key
from tidegate.web.auth.verifier import claim_faults

_DURATION = re.compile(r"([0-9]{1,7})([smhd])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
#: Ten years: a longer one is a mistake.
DURATION_MAX_S = 315_360_000
KEY_FILE_MAX_BYTES = 65_536
#: The first that a key is for, in this order.
_PREFERRED = ("HS256", "RS256", "ES256", "ES384", "ES512", "EdDSA")

NO_KEY = (
    "no key to sign with: set TIDEGATE_AUTH__SECRET to the gateway's secret, or give the private "
    "key that belongs to its public key as --key-file FILE"
)


class SigningKey(NamedTuple):
    """`material` is what PyJWT takes."""

    algorithm: str
    material: Any


def parse_duration(text: str) -> int:
    """Seconds of `90s`, `30m`, `8h` or `7d`. Raises InvalidRequest."""
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= DURATION_MAX_S:
        raise InvalidRequest("--for", "must be a duration such as 90s, 30m, 8h or 7d")
    return seconds


def signing_key(settings: AuthSettings, key_file: Path | None) -> SigningKey:
    """The private key of a file, or else `auth.secret`.

    Raises:
        SettingsError: there is neither, or it cannot be used.
    """
    if key_file is not None:
        material, allowed = _private_key(key_file)
    elif settings.secret is not None:
        text = settings.secret.get_secret_value()
        try:
            material, allowed = text, secret_key(text).algorithms
        except KeyUnusable as error:
            raise SettingsError((f"auth.secret: {error}",)) from None
    else:
        raise SettingsError((NO_KEY,))
    usable = [name for name in settings.algorithms or sorted(allowed) if name in allowed]
    for name in (*_PREFERRED, *usable):
        if name in usable:
            return SigningKey(name, material)
    raise SettingsError(
        (f"auth.algorithms: {','.join(settings.algorithms)} has none that this key is for",)
    )


def _private_key(path: Path) -> tuple[Any, frozenset[str]]:
    try:
        with path.open("rb") as file:
            document = file.read(KEY_FILE_MAX_BYTES + 1)
        if len(document) > KEY_FILE_MAX_BYTES:
            raise KeyUnusable(f"has more than {KEY_FILE_MAX_BYTES} bytes")
        key = load_pem_private_key(document, None)
        return key, public_key(key.public_key()).algorithms
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except KeyUnusable as error:
        why = str(error)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "is no private key in PEM without a password"
    raise SettingsError((f"--key-file: {path} {why}",))


def make_token(
    settings: AuthSettings,
    key: SigningKey,
    *,
    user: str,
    operations: Sequence[str] | None,
    valid_s: int,
    audience: str | None = None,
    key_id: str | None = None,
) -> str:
    """A signed token with the names of claims, the issuer and the audience of the settings.

    Raises:
        InvalidRequest: the gateway would refuse these claims.
    """
    now = int(time.time())
    claims: dict[str, Any] = {settings.user_claim: user, "iat": now, "exp": now + valid_s}
    if operations is not None:
        claims[settings.operations_claim] = list(operations)
    if settings.issuer is not None:
        claims["iss"] = settings.issuer
    chosen = audience or next(iter(settings.audience), None)
    if chosen is not None:
        claims["aud"] = chosen
    try:
        payload = orjson.dumps(claims)
    except TypeError:  # half a surrogate pair, of an argument that is no UTF-8
        raise InvalidRequest("token", "its claims must be text") from None
    for fault in claim_faults(payload, settings, now):
        raise InvalidRequest("token", str(fault))
    headers = None if key_id is None else {"kid": key_id}
    return jwt.encode(claims, key.material, key.algorithm, headers=headers)
