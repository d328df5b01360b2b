"""What is wrong with a viewer's token, for the person who debugs it.

The verdict is the gateway's own: the same keys, the same `Verifier`, the same settings. Beside it
stands what a gateway does not tell a stranger: the values in the token and those that were wanted.
All faults are listed, not the first only; no text repeats the signature or a secret.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from tidegate.cli.times import long_duration
from tidegate.model.settings import ALGORITHMS, AuthSettings
from tidegate.web.access.authenticator import key_source
from tidegate.web.auth.credentials import parse_token
from tidegate.web.auth.verifier import TIME_MAX, Verifier, claim_faults
from tidegate.web.problem import Unauthenticated

_SHOWN_MAX_CHARS = 200


class Fault(NamedTuple):
    """`code` is that of the gateway's `error` frame; `text` says what to change."""

    code: str
    text: str


class TokenReport(NamedTuple):
    """Header and claims as they are in the token, whatever they are worth; None: unreadable."""

    header: Mapping[str, Any] | None
    claims: Mapping[str, Any] | None
    faults: tuple[Fault, ...]


async def check_token(text: str, settings: AuthSettings) -> TokenReport:
    """Try a token as a gateway with these settings would.

    Raises:
        SettingsError: there is no key, or it cannot be used.
    """
    keys = key_source(settings)
    now = time.time()
    header, payload = _part(text, 0), _part(text, 1)
    seen, claims = _object(header), _object(payload)
    running = asyncio.create_task(keys.run())  # fetches keys, where they have to be
    try:
        await Verifier(settings, keys, lambda: now).verify(parse_token(text))
        return TokenReport(seen, claims, ())
    except Unauthenticated as error:
        found = [error]
        if claims is not None:
            found += claim_faults(payload, settings, now)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await keys.close()
    faults = [_fault(one, seen or {}, claims or {}, settings, now) for one in found]
    return TokenReport(seen, claims, tuple(dict.fromkeys(faults)))


def _part(text: str, index: int) -> bytes:
    parts = text.split(".")
    if len(parts) != 3:
        return b""
    try:
        return base64.urlsafe_b64decode(parts[index] + "=" * (-len(parts[index]) % 4))
    except (ValueError, binascii.Error):
        return b""


def _object(part: bytes) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(part)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _fault(
    error: Unauthenticated,
    header: Mapping[str, Any],
    claims: Mapping[str, Any],
    settings: AuthSettings,
    now: float,
) -> Fault:
    """The gateway's words, the values, and what to do."""
    key = next((f"auth.{name}" for name in settings.key_settings), "the key")
    match error.code:
        case "expired":
            ago = long_duration(now - claims["exp"])
            more = f"at {moment(claims['exp'])}, {ago} ago; issue a new one"
        case "not_yet_valid":
            more = f"it is from {moment(claims['nbf'])} on; compare the issuer's clock with ours"
        case "wrong_audience":
            wanted = ", ".join(settings.audience) or "none, because auth.audience is not set"
            more = f"aud is {_shown(claims.get('aud'))}; accepted: {wanted}"
        case "wrong_issuer":
            more = f"iss is {_shown(claims.get('iss'))}; auth.issuer is {settings.issuer}"
        case "bad_algorithm":
            accepted = ", ".join(settings.algorithms or ALGORITHMS)
            more = f"alg is {_shown(header.get('alg'))}; accepted: {accepted}"
        case "unknown_key":
            more = (
                f"alg is {_shown(header.get('alg'))} and kid is {_shown(header.get('kid'))}; "
                f"{key} has no key for them"
            )
        case "bad_signature":
            more = f"it was signed with another key than {key}, or changed afterwards"
        case "bad_token":
            more = "a JWT is three parts of base64url with a dot between, header.claims.signature"
        case "bad_claim":
            more = "correct the claim where the token is issued"
        case _:
            more = "retry later" if error.retry else ""
    return Fault(error.code, f"{error}: {more}" if more else str(error))


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_MAX_CHARS else text[: _SHOWN_MAX_CHARS - 3] + "..."


def moment(seconds: object) -> str:
    """A time claim for people, in UTC; what is none is shown as it is."""
    usable = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not usable or not 0 <= seconds <= TIME_MAX:  # type: ignore[operator]  # checked above
        return _shown(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")  # type: ignore[arg-type]
