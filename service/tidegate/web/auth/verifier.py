"""From a token to an identity: signature, then claims.

The signature is PyJWT's work; which key and algorithm it is tried with is decided here, by the key
(see `keys`). Claims are read strictly and with the time as an argument, because a wrong type must
never turn into a default: a limit that is no number is refused, not ignored. Times are seconds
since the epoch up to the year 9999, which also catches issuers that write milliseconds.

Invariant: `verify` returns an identity or raises `Unauthenticated`, whatever the token is; no text
of it repeats anything from the token.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.exceptions import PyJWTError

from tidegate.model.settings import ALGORITHMS, AuthSettings
from tidegate.web.auth.credentials import TOKEN_MAX_BYTES, Token
from tidegate.web.auth.identity import Identity, is_user_id
from tidegate.web.auth.keys import KeySource, VerifyingKey, new_checker
from tidegate.web.auth.patterns import PATTERN_MAX_LENGTH
from tidegate.web.problem import Unauthenticated

KID_MAX_LENGTH = 256
TOKEN_ID_MAX_LENGTH = 256
OPERATIONS_MAX = 256
LIMIT_MAX = 1_000_000
#: The end of the year 9999 (RFC 3339 knows no later one).
TIME_MAX = 253_402_300_799

Claims: TypeAlias = Mapping[str, Any]

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class Verifier:
    """Checks tokens against a key source and the settings; `clock` is wall time."""

    def __init__(
        self, settings: AuthSettings, keys: KeySource, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._algorithms = frozenset(settings.algorithms or ALGORITHMS)
        self._checker = new_checker()

    async def verify(self, token: Token) -> Identity:
        """Who the token is for.

        Raises:
            Unauthenticated: always with a reason that may be shown.
        """
        algorithm, kid = self._read_header(token.text)
        keys = await self._keys.find(kid)
        fitting = [key for key in keys if algorithm in key.algorithms]
        if not fitting:
            raise Unauthenticated("unknown_key", "no known key matches this token")
        for key in fitting:
            payload = self._check(token.text, key, algorithm)
            if payload is not None:
                return read_claims(payload, self._settings, self._clock())
        raise Unauthenticated("bad_signature", "the token's signature is invalid")

    def _read_header(self, text: str) -> tuple[str, str | None]:
        """Algorithm and key id, believed only as far as choosing a key goes."""
        if len(text) > TOKEN_MAX_BYTES or _SHAPE.fullmatch(text) is None:
            raise _malformed()
        part = text.partition(".")[0]
        try:
            header = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (ValueError, binascii.Error):
            raise _malformed() from None
        if not isinstance(header, dict):
            raise _malformed()
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Unauthenticated("bad_algorithm", "the token's algorithm is not accepted")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= KID_MAX_LENGTH):
            raise _malformed()
        return algorithm, kid

    def _check(self, text: str, key: VerifyingKey, algorithm: str) -> bytes | None:
        """The payload, if this key signed it."""
        try:
            # PyJWT takes the algorithm from the header again; it may only be the one that was read.
            found = self._checker.decode_complete(text, key.material, algorithms=[algorithm])
        except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, RecursionError):
            return None
        payload: bytes = found["payload"]
        return payload


def read_claims(payload: bytes, settings: AuthSettings, now: float) -> Identity:
    """The identity of a payload whose signature is right, at the time `now` (epoch seconds).

    Raises:
        Unauthenticated: a claim is missing, wrong or out of time.
    """
    try:
        claims = orjson.loads(payload)
    except ValueError:  # also for NaN, and for nesting without an end
        raise _malformed() from None
    if not isinstance(claims, dict):
        raise _malformed()
    expires_at = _read_times(claims, settings, now)
    _check_issuer(claims, settings)
    _check_audience(claims, settings)
    return Identity(
        _read_user(claims, settings.user_claim),
        expires_at,
        _read_limit(claims, settings.limit_claim),
        _read_operations(claims, settings.operations_claim),
        _read_token_id(claims),
        _read_time(claims, "iat"),
        _read_operations(claims, settings.cancel_claim),
    )


def claim_faults(payload: bytes, settings: AuthSettings, now: float) -> list[Unauthenticated]:
    """All that `read_claims` would refuse, one after another, for people who debug a token."""
    try:
        claims = orjson.loads(payload)
    except ValueError:
        return [_malformed()]
    if not isinstance(claims, dict):
        return [_malformed()]
    found: list[Unauthenticated] = []
    for read in (
        lambda: _read_times(claims, settings, now),
        lambda: _check_issuer(claims, settings),
        lambda: _check_audience(claims, settings),
        lambda: _read_user(claims, settings.user_claim),
        lambda: _read_limit(claims, settings.limit_claim),
        lambda: _read_operations(claims, settings.operations_claim),
        lambda: _read_token_id(claims),
        lambda: _read_time(claims, "iat"),
    ):
        try:
            read()
        except Unauthenticated as error:
            found.append(error)
    return found


def _malformed() -> Unauthenticated:
    return Unauthenticated("bad_token", "this is not a signed token")


def _bad_claim(name: str, allowed: str) -> Unauthenticated:
    # `name` comes from the settings, not from the token.
    return Unauthenticated("bad_claim", f"the token's claim {name} must be {allowed}")


def _read_times(claims: Claims, settings: AuthSettings, now: float) -> float | None:
    begins = _read_time(claims, "nbf")
    if begins is not None and begins > now + settings.leeway_s:
        raise Unauthenticated("not_yet_valid", "the token is not valid yet")
    ends = _read_time(claims, "exp")
    if ends is None:
        if settings.require_exp:
            raise _bad_claim("exp", "present: tokens without an expiry are not accepted")
        return None
    if ends + settings.leeway_s <= now:
        raise Unauthenticated("expired", "the token has expired")
    # With the leeway: one who was just let in late must not be closed at once.
    return ends + settings.leeway_s


def _read_time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TIME_MAX:
        raise _bad_claim(name, "a number of seconds since 1970")
    return float(value)


def _check_issuer(claims: Claims, settings: AuthSettings) -> None:
    if settings.issuer is not None and claims.get("iss") != settings.issuer:
        raise Unauthenticated("wrong_issuer", "the token has the wrong issuer")


def _check_audience(claims: Claims, settings: AuthSettings) -> None:
    audience = claims.get("aud", [])
    if isinstance(audience, str):
        audience = [audience]
    if not isinstance(audience, list) or not all(isinstance(one, str) for one in audience):
        raise _bad_claim("aud", "a text or a list of texts")
    wanted = settings.audience
    if not wanted and not audience:
        return
    if not set(wanted) & set(audience):
        raise Unauthenticated("wrong_audience", "the token has the wrong audience")


def _read_user(claims: Claims, name: str) -> str:
    value = claims.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not is_user_id(value):
        raise _bad_claim(name, "a user's id of 1 to 256 printable characters")
    return value


def _read_token_id(claims: Claims) -> str | None:
    if "jti" not in claims:
        return None
    value = claims["jti"]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= TOKEN_ID_MAX_LENGTH:
        raise _bad_claim("jti", f"a text of 1 to {TOKEN_ID_MAX_LENGTH} characters")
    return value


def _read_limit(claims: Claims, name: str) -> int | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LIMIT_MAX:
        raise _bad_claim(name, f"a whole number from 0 to {LIMIT_MAX}")
    return value


def _read_operations(claims: Claims, name: str) -> tuple[str, ...] | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, str):
        value = value.split()
    if (
        not isinstance(value, list)
        or len(value) > OPERATIONS_MAX
        or not all(isinstance(one, str) and 0 < len(one) <= PATTERN_MAX_LENGTH for one in value)
    ):
        raise _bad_claim(name, f"a list of at most {OPERATIONS_MAX} ids or patterns")
    return tuple(value)
