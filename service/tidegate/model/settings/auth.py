"""Authentication of viewers: tokens, the keys that verify them, and origins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant, Word, Words, pattern, split_list

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"),
)


SECRET_MIN_BYTES = 32


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if "-----BEGIN" in text:
        raise ValueError("is a PEM key, not a secret: use auth.key_file")
    if len(text.encode(errors="replace")) < SECRET_MIN_BYTES:
        # RFC 7518, 3.2: a shorter one can be found by brute force from any token.
        raise ValueError(f"must have at least {SECRET_MIN_BYTES} bytes")
    return secret


Secret32 = Annotated[SecretStr, AfterValidator(_check_secret)]


KeysUrl = Annotated[
    str,
    pattern(
        r"^https?://[^\s/?#@\\]+(/[\x21\x24-\x7e]*)?$",
        "an https:// URL without user and fragment",
        max_length=1_024,
    ),
]


Algorithms = Annotated[
    tuple[Annotated[str, pattern(f"^({'|'.join(ALGORITHMS)})$", ", ".join(ALGORITHMS))], ...],
    Field(max_length=len(ALGORITHMS)),
    BeforeValidator(split_list),
]


Origins = Annotated[
    tuple[
        Annotated[
            str,
            pattern(
                r"^https?://((\*\.)?([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])"
                r"(:[0-9]{1,5})?|(localhost|127\.0\.0\.1|\[::1\]):\*)$",
                "such as https://app.example.com or https://*.example.com:8443",
                max_length=300,
            ),
        ],
        ...,
    ],
    Field(max_length=256),
    BeforeValidator(split_list),
]


_Claim = Annotated[str, pattern(r"^[\x21-\x7e]{1,1024}$", "printable ASCII text, no space")]


_CookieName = Annotated[
    str, pattern(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", "the name of a cookie")
]


class AuthSettings(Group):
    """Authentication of viewers: accepted tokens, where they may be sent, and allowed origins."""

    group_name = "auth"

    secret: Annotated[
        Secret32 | None,
        Field(
            description="Shared secret for HS256, HS384 or HS512, at least 32 bytes (48 and 64 "
            "for the longer ones). Set it by environment variable. With `server.auth` = jwt, "
            "exactly one of `secret`, `key_file` and `jwks_url` is required."
        ),
    ] = None
    previous_secret: Annotated[
        Secret32 | None,
        Field(
            description="The previous secret, still accepted, so that rotating the secret "
            "disconnects nobody."
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        Field(
            description="PEM file with public keys or certificates (RSA, EC, Ed25519, Ed448). "
            "Reloaded within a second of a change; put two keys into it to rotate them."
        ),
    ] = None
    jwks_url: Annotated[
        KeysUrl | None,
        Field(description="JWKS URL of the issuer. Must be https."),
    ] = None
    jwks_allow_http: Annotated[
        bool,
        Field(
            description="Allow plain http for `jwks_url`. Anyone who can change the response can "
            "authenticate as any user, so use it only in tests and in a mesh with its own "
            "encryption."
        ),
    ] = False
    jwks_ca_file: Annotated[
        Path | None,
        Field(description="PEM file of the CA that signed the certificate of the issuer's server."),
    ] = None
    #: Minimum time between two fetches, whatever triggers them: anyone can send a token with an
    #: unknown key id.
    jwks_min_interval_s: Constant[float] = 10.0
    #: Keys are fetched again after this long, so that a withdrawn key is dropped. While the URL
    #: is unavailable the cached ones are used.
    jwks_max_age_s: Constant[float] = 900.0
    #: Timeout of a fetch of keys. A viewer with an unknown key id waits for it.
    jwks_timeout_s: Constant[float] = 5.0
    algorithms: Annotated[
        Algorithms,
        Field(
            description="Allowed algorithms. Empty: all that match the type of the key; `none` is "
            "never allowed."
        ),
    ] = ()
    issuer: Annotated[
        _Claim | None,
        Field(description="Required value of the claim `iss`. Unset: not checked."),
    ] = None
    audience: Annotated[
        Words,
        Field(
            description="The claim `aud` must contain one of these. Empty: a token with an "
            "audience is refused, because it is not meant for this gateway (RFC 7519, 4.1.3)."
        ),
    ] = ()
    leeway_s: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            description="Clock skew allowed for `exp` and `nbf`; a viewer is disconnected this "
            "long after `exp`.",
        ),
    ] = 10.0
    require_exp: Annotated[
        bool,
        Field(description="Refuse tokens without `exp`: a leaked one would be valid forever."),
    ] = True
    revoked_keep_s: Annotated[
        float,
        Field(
            ge=60,
            le=31_622_400,
            description="How long a revocation is kept. At least the maximum lifetime of your "
            "tokens, because a revoked token is valid again afterwards.",
        ),
    ] = 86_400.0
    user_claim: Annotated[
        Word, Field(description="Claim with the user id, a string or an integer.")
    ] = "sub"
    operations_claim: Annotated[
        Word,
        Field(
            description="Claim with the operations that the token grants access to, a list of ids "
            "or patterns with `*`; used by the source `claims`."
        ),
    ] = "operations"
    #: Claim with the operations that the user may cancel, a list of ids or patterns with `*`; it
    #: does not grant watching them. Our own: no issuer has one of this meaning.
    cancel_claim: Constant[str] = "cancel_operations"
    #: Claim with the connection limit of the user; 0: no limit. Without the claim, `slots.limit`
    #: applies. Our own, as `cancel_claim`.
    limit_claim: Constant[str] = "connection_limit"
    token_in_query: Annotated[
        bool,
        Field(
            description="Also accept the token as `?token=`. Off by default: proxies, browsers "
            "and servers log URLs."
        ),
    ] = False
    cookie: Annotated[
        _CookieName | None,
        Field(
            description="Also accept the token from this cookie: a browser's `EventSource` cannot "
            "send a header. The cookie is accepted only with an allowed `Origin`, or with "
            "`Sec-Fetch-Site: same-origin` or `none`, because browsers send cookies with requests "
            "from pages of any site."
        ),
    ] = None
    origins: Annotated[
        Origins,
        Field(
            description="Web origins whose pages may connect, such as `https://app.example.com` "
            "or `https://*.example.com` (any sub-domain, not the domain itself); with "
            "`server.demo` also `http://localhost:*` (any port of loopback). Empty: the page must "
            "have the same host as the gateway."
        ),
    ] = ()

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.previous_secret is not None and self.secret is None:
            raise rule_broken("auth.previous_secret", "***", "needs auth.secret")
        plain_http = self.jwks_url is not None and not self.jwks_url.startswith("https://")
        if plain_http and not self.jwks_allow_http:
            raise rule_broken(
                "auth.jwks_url",
                self.jwks_url,
                "must start with https:// (set auth.jwks_allow_http to allow http in tests)",
            )
        keys = self.key_settings
        if len(keys) > 1:
            raise rule_broken(
                f"auth.{keys[1]}", "***", f"must not be given together with auth.{keys[0]}"
            )
        shared = [name for name in self.algorithms if name.startswith("HS")]
        if self.secret is not None and self.algorithms and not shared:
            raise rule_broken(
                "auth.algorithms",
                ",".join(self.algorithms),
                "must contain one of HS256, HS384, HS512, which auth.secret is for",
            )
        if self.secret is None and keys and shared:
            # Algorithm confusion: a token signed with the public key as if it were a secret.
            raise rule_broken(
                "auth.algorithms",
                ",".join(self.algorithms),
                f"must not contain {shared[0]}: auth.{keys[0]} gives public keys, not a secret",
            )
        return self

    @property
    def key_settings(self) -> list[str]:
        """Names of the settings that say where keys come from; a valid `jwt` has exactly one."""
        names = ("secret", "key_file", "jwks_url")
        return [name for name in names if getattr(self, name) is not None]
