"""Authentication and authorization of viewers, when they connect and whenever a token is renewed.

    origin -> token -> identity -> operation source -> Allowed

It wires the parts of this package from the settings. Each question is answered or raises a
`Refused`, which carries the close code. Tokens are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tidegate.model.errors import SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import AuthSettings, Settings, SourceSettings
from tidegate.web.auth.callable_source import CallableSource, load_function
from tidegate.web.auth.credentials import Headers, Token, find_token, parse_token
from tidegate.web.auth.fetch import Fetcher
from tidegate.web.auth.http_source import SHARE, HttpSource
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.auth.jwks import DOCUMENT_MAX_BYTES, Jwks
from tidegate.web.auth.key_file import KeyFile
from tidegate.web.auth.keys import (
    HS_MIN_BYTES,
    FixedKeys,
    KeySource,
    KeyUnusable,
    VerifyingKey,
    secret_key,
)
from tidegate.web.auth.origin import comes_from_here, request_allowed
from tidegate.web.auth.sources import (
    Allowed,
    AnySource,
    ClaimsSource,
    HashSource,
    OperationHashes,
    OperationSource,
)
from tidegate.web.auth.verifier import Verifier
from tidegate.web.problem import Forbidden, Unauthenticated


class Principal(NamedTuple):
    """The authenticated caller: keep the identity, drop the token after authorisation."""

    identity: Identity
    token: Token | None


#: The principal of a connection that is not authenticated yet, or need not be.
NOBODY = Principal(ANONYMOUS, None)


class Authenticator:
    """Authentication and authorisation as the settings want them.

    Args:
        hashes: reads operation hashes; needed by the source `redis` only.

    Raises:
        SettingsError: a key, file or function cannot be used.
    """

    def __init__(self, settings: Settings, hashes: OperationHashes | None = None) -> None:
        self._settings = settings.auth
        self._keys: KeySource | None = None
        self._verifier: Verifier | None = None
        if settings.server.auth == "jwt":
            self._keys = key_source(settings.auth)
            self._verifier = Verifier(settings.auth, self._keys)
        self.source = operation_source(settings.source, hashes)

    @property
    def uses_tokens(self) -> bool:
        """Whether viewers are known by tokens at all."""
        return self._verifier is not None

    async def run(self) -> None:
        """Keep keys fresh until cancelled; returns when there is nothing to do."""
        if self._keys is not None:
            await self._keys.run()

    async def close(self) -> None:
        """Give up connections."""
        if self._keys is not None:
            await self._keys.close()
        await self.source.close()

    async def authenticate(
        self, headers: Headers, subprotocols: Sequence[str], query: bytes
    ) -> Principal:
        """Who sends this request.

        Raises:
            Forbidden: the page's origin may not connect.
            Unauthenticated: the token is missing or wrong, or cannot be checked now.
        """
        headers = tuple(headers)
        verifier = self._verifier
        if verifier is None:
            return self.anonymous(headers)
        token = find_token(headers, subprotocols, query, self._settings)
        self._check_origin(headers, has_token=token is not None)
        if token is None:
            raise Unauthenticated("token_missing", "a token is required")
        if token.is_ambient and not comes_from_here(headers):
            raise Forbidden(
                "origin",
                "a token in a cookie needs an Origin of auth.origins, or Sec-Fetch-Site: "
                "same-origin or none, which browsers send to https and loopback only",
            )
        return Principal(await verifier.verify(token), token)

    def anonymous(self, headers: Headers) -> Principal:
        """The principal of a request without authentication (`server.auth` is `none`).

        Raises:
            Forbidden: the origin is not allowed.
        """
        self._check_origin(headers, has_token=True)
        return NOBODY

    async def renew(self, text: str) -> Principal:
        """Who a `refresh` frame's token is for; the caller compares users and asks the source
        again. Raises Unauthenticated.
        """
        if self._verifier is None:
            raise Unauthenticated("no_tokens", "this gateway does not use tokens")
        token = parse_token(text)
        return Principal(await self._verifier.verify(token), token)

    async def authorise(self, principal: Principal, operation: OperationId) -> Allowed:
        """Whether the principal may watch. Raises Forbidden, NotFound, SourceFailed."""
        return await self.source.check(principal.identity, principal.token, operation)

    def _check_origin(self, headers: Headers, *, has_token: bool) -> None:
        if not request_allowed(headers, self._settings.origins, has_token=has_token):
            if has_token or any(name == b"origin" for name, _ in headers):
                raise Forbidden("origin", "this origin is not allowed to connect (auth.origins)")
            raise Unauthenticated("token_missing", "a token is required")


def key_source(settings: AuthSettings) -> KeySource:
    """The key source that the settings name. Raises SettingsError."""
    if settings.secret is not None:
        return FixedKeys(_secrets(settings))
    if settings.key_file is not None:
        return KeyFile(settings.key_file)
    if settings.jwks_url is None:
        raise SettingsError(("auth: needs auth.secret, auth.key_file or auth.jwks_url",))
    fetcher = Fetcher(
        timeout_s=settings.jwks_timeout_s,
        max_bytes=DOCUMENT_MAX_BYTES,
        max_requests=1,
        ca_file=settings.jwks_ca_file,
        use_proxy=True,
        setting="auth.jwks_ca_file",
    )
    return Jwks(
        settings.jwks_url,
        fetcher,
        min_interval_s=settings.jwks_min_interval_s,
        max_age_s=settings.jwks_max_age_s,
        timeout_s=settings.jwks_timeout_s,
    )


def operation_source(settings: SourceSettings, hashes: OperationHashes | None) -> OperationSource:
    """The operation source that the settings name. Raises SettingsError."""
    match settings.kind:
        case "claims":
            return ClaimsSource()
        case "http":
            fetcher = Fetcher(
                timeout_s=settings.timeout_s,
                max_bytes=settings.max_state_bytes,
                max_requests=settings.max_requests,
                share=max(1, int(settings.max_requests * SHARE)),
                ca_file=settings.ca_file,
                # A user's token goes to the backend and to nobody whom a variable names.
                use_proxy=False,
                setting="source.ca_file",
            )
            return HttpSource(settings, fetcher)
        case "callable":
            return CallableSource(
                load_function(settings.function or ""),
                timeout_s=settings.timeout_s,
                max_state_bytes=settings.max_state_bytes,
            )
        case "redis":
            if hashes is None:
                raise SettingsError(("source.kind: redis is not possible here",))
            return HashSource(
                hashes, timeout_s=settings.timeout_s, max_state_bytes=settings.max_state_bytes
            )
        case _:
            return AnySource()


def _secrets(settings: AuthSettings) -> list[VerifyingKey]:
    keys = []
    for name in ("secret", "previous_secret"):
        secret = getattr(settings, name)
        if secret is None:
            continue
        try:
            key = secret_key(secret.get_secret_value())
        except KeyUnusable as error:
            raise SettingsError((f"auth.{name}: {error}",)) from None
        missing = set(settings.algorithms) - key.algorithms
        if missing:
            name_ = min(missing)
            raise SettingsError(
                (f"auth.{name}: must have at least {HS_MIN_BYTES[name_]} bytes for {name_}",)
            )
        keys.append(key)
    return keys
