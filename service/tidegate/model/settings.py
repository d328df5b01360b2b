"""The settings tree: every figure and choice of a gateway replica, in one frozen object.

Owns names, defaults, bounds, reasons and the rules between fields. It reads nothing: where the
values come from (flags, environment, YAML file) is the command line's business, in
``tidegate.cli.settings_source``.

Durations are seconds as floats (``_s``), sizes are bytes (``_bytes``). Each description says what
the setting does and why its default is what it is; ``docs/settings.md`` is made from them, which
is also why this module is longer than others: it is one table.

Invariant: a ``Settings`` that exists is valid as a whole, cannot change, and shows no secret
in ``repr``, ``str`` or a JSON dump.
"""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Secret,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

_SECRET_IN_QUERY = re.compile(r"(?P<key>[?&][a-z_]*password=)[^&#]*", re.IGNORECASE)


def redact_url(url: str) -> str:
    """``url`` with every password in it (before the ``@``, in the query) shown as ``***``.

    Takes too much rather than too little: a password with an unescaped ``/`` or ``@`` in it
    makes no valid URL, and must still not be shown. What is no URL at all is hidden altogether.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return "***"
    login, at, address = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        url = f"{scheme}://{user}{':***' if colon else ''}@{address}"
    return _SECRET_IN_QUERY.sub(r"\g<key>***", url)


class RedisUrl(Secret[str]):
    """A Redis address; shown without its password, read with ``get_secret_value()``."""

    def _display(self) -> str:
        return redact_url(self.get_secret_value())


def _check_scheme(url: RedisUrl) -> RedisUrl:
    scheme, found, rest = url.get_secret_value().partition("://")
    if not found or scheme not in REDIS_SCHEMES or not rest:
        # The value stays out of the message: a mistyped URL may well hold a password.
        raise ValueError("must start with one of " + ", ".join(f"{s}://" for s in REDIS_SCHEMES))
    return url


def _split(value: Any) -> Any:
    """Lists may be written ``a,b`` or as JSON where there is only text (flags, environment)."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("is no valid JSON list") from None
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _host_name() -> str:
    """The host's name, which is the pod's name in Kubernetes, made fit for a consumer name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", platform.node())[:128] or "tidegate"


def _pattern(pattern: str, words: str, **more: Any) -> Any:
    """A text field whose pattern is told in words."""
    return Field(pattern=pattern, json_schema_extra={"allowed": words}, **more)


_Word = Annotated[
    str, _pattern(r"^[\x21-\x7e]{1,128}$", "1 to 128 printable ASCII characters, no space")
]
Words = Annotated[
    tuple[_Word, ...],
    Field(max_length=64),
    BeforeValidator(_split),
]
ReplicaUrls = Annotated[
    tuple[
        Annotated[
            str, _pattern(r"^https?://[^/\s]+$", "such as http://127.0.0.1:8080", max_length=256)
        ],
        ...,
    ],
    Field(max_length=64),
    BeforeValidator(_split),
]
Port = Annotated[int, Field(ge=0, le=65_535)]
Host = Annotated[str, _pattern(r"^[^\s/]{1,255}$", "an address or a host name")]

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"),
)
SECRET_MIN_BYTES = 32


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if "-----BEGIN" in text:
        raise ValueError("holds a PEM key, not a secret: give its file as auth.key_file")
    if len(text.encode(errors="replace")) < SECRET_MIN_BYTES:
        # RFC 7518, 3.2: a shorter one can be guessed from any token that somebody holds.
        raise ValueError(f"must have at least {SECRET_MIN_BYTES} bytes")
    return secret


Secret32 = Annotated[SecretStr, AfterValidator(_check_secret)]
HttpUrl = Annotated[
    str,
    _pattern(
        r"^https?://[^\s/?#@\\]+(/[\x21\x24-\x3e\x40-\x7e]*)?$",
        "an http:// or https:// URL without user, query and fragment",
        max_length=1_024,
    ),
]
KeysUrl = Annotated[
    str,
    _pattern(
        r"^https?://[^\s/?#@\\]+(/[\x21\x24-\x7e]*)?$",
        "an https:// URL without user and fragment",
        max_length=1_024,
    ),
]
Algorithms = Annotated[
    tuple[Annotated[str, _pattern(f"^({'|'.join(ALGORITHMS)})$", ", ".join(ALGORITHMS))], ...],
    Field(max_length=len(ALGORITHMS)),
    BeforeValidator(_split),
]
Origins = Annotated[
    tuple[
        Annotated[
            str,
            _pattern(
                r"^https?://(\*\.)?([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])"
                r"(:[0-9]{1,5})?$",
                "such as https://app.example.com or https://*.example.com:8443",
                max_length=300,
            ),
        ],
        ...,
    ],
    Field(max_length=256),
    BeforeValidator(_split),
]
_Claim = Annotated[str, _pattern(r"^[\x21-\x7e]{1,1024}$", "printable ASCII text, no space")]
_CookieName = Annotated[
    str, _pattern(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", "the name of a cookie")
]
_FunctionName = Annotated[
    str,
    _pattern(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", "such as package.module:function"),
]


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}=[\x21-\x2b\x2d-\x7e][\x20-\x2b\x2d-\x7e]*")


def _check_headers(headers: SecretStr | None) -> SecretStr | None:
    if headers is not None:
        parts = headers.get_secret_value().split(",")
        if len(parts) > 32 or not all(_HEADER.fullmatch(part.strip()) for part in parts):
            # The value stays out of the message: it may hold a key.
            raise ValueError("must look like name=value,name=value in printable ASCII")
    return headers


class Group(BaseModel):
    """What all groups share: frozen, no unknown names, no ``true`` where a number belongs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    group_name: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads True as 1, so `linger_s: yes` in YAML would mean one second.
        name = info.field_name
        if isinstance(value, bool) and name and cls.model_fields[name].annotation in (int, float):
            raise ValueError("must be a number, not true or false")
        return value

    def _require(self, field: str, relation: str, other: str) -> None:
        """Refuse unless ``field < other`` or ``field <= other``; the message names both."""
        left, right = getattr(self, field), getattr(self, other)
        if not (left < right if relation == "<" else left <= right):
            word = "below" if relation == "<" else "at most"
            raise rule_broken(
                f"{self.group_name}.{field}",
                left,
                f"must be {word} {self.group_name}.{other} ({right})",
            )


def rule_broken(path: str, value: object, text: str) -> PydanticCustomError:
    """The error of a rule between fields; ``ctx`` carries path and value for the report."""
    return PydanticCustomError(
        "rule_broken", "{path}: {text}", {"path": path, "value": value, "text": text}
    )


class ServerSettings(Group):
    """Listeners, name and life of this replica."""

    group_name = "server"

    host: Annotated[
        Host,
        Field(description="Address for viewers. Loopback: a fresh start is reachable by nobody."),
    ] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port for viewers; 0 takes any free one.")] = 8080
    admin_host: Annotated[
        Host,
        Field(
            description="Address of the admin listener: health, metrics, debug state. "
            "Loopback, because it tells operation ids."
        ),
    ] = "127.0.0.1"
    admin_port: Annotated[
        Port,
        Field(
            description="Port of the admin listener; 0 takes any free one. "
            "Apart from the viewers' port, so that no ingress exposes it by accident."
        ),
    ] = 9090
    pod: str = Field(
        default_factory=_host_name,
        pattern=r"^[A-Za-z0-9._-]{1,128}$",
        description="Name of this replica: its consumer in the shared group, its name in "
        "logs and metrics. Two replicas on one Redis must differ.",
        json_schema_extra={
            "allowed": "1 to 128 of A-Z a-z 0-9 . _ -",
            "default_text": "the host's name",
        },
    )
    auth: Annotated[
        Literal["none", "jwt"] | None,
        Field(
            description="How viewers are authenticated: by a signed token (`jwt`, see `auth`) or "
            "not at all. No default: `none` lets anybody who reaches the port watch every "
            "operation, so it has to be said."
        ),
    ] = None
    sender: Annotated[
        Literal["auto", "direct", "asgi"],
        Field(
            description="How frames reach sockets: `direct` writes prepared frames to the "
            "transport, `asgi` sends one message per frame through the server's plain interface, "
            "`auto` takes `direct` where the server offers it."
        ),
    ] = "auto"
    demo: Annotated[
        bool,
        Field(description="Serve the demo page at `/`. Off: a gateway has no pages of its own."),
    ] = False
    demo_replicas: Annotated[
        ReplicaUrls,
        Field(
            description="Base URLs of all replicas, for the demo page to move between, such as "
            "`http://127.0.0.1:8080`. Empty: the page knows only the one that served it."
        ),
    ] = ()
    admin_token: Annotated[
        SecretStr | None,
        Field(
            description="What changes something on the admin port (disconnect a user) and the "
            "look inside (`/debug/...`) need this as a bearer token. Not set: changes are "
            "refused, and the look inside is given only where `server.admin_host` is loopback. "
            "Give it by environment."
        ),
    ] = None
    shutdown_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=600,
            description="Longest wait, after the drain, for connections that do not close. It "
            "comes on top of `drain.delay_s` and `drain.window_s` in the pod's grace period.",
        ),
    ] = 10.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.port and self.port == self.admin_port and self.host == self.admin_host:
            raise rule_broken(
                "server.admin_port",
                self.admin_port,
                "must differ from server.port on the same address",
            )
        return self


class RedisSettings(Group):
    """The way to Redis or Valkey, and how its loss is noticed and healed."""

    group_name = "redis"

    url: Annotated[
        RedisUrl,
        AfterValidator(_check_scheme),
        Field(
            description="`redis://host:port/db`, `rediss://` for TLS, `unix:///path`, "
            "`redis+sentinel://host1,host2/master`, `redis+cluster://host1,host2`. "
            "User and password may be in it; they are never shown."
        ),
    ] = RedisUrl("redis://127.0.0.1:6379/0")
    username: Annotated[
        str | None, Field(description="ACL user; goes before the one in the URL.")
    ] = None
    password: Annotated[
        SecretStr | None,
        Field(
            description="Password; goes before the one in the URL. Give it by environment, not "
            "by flag: flags are visible in the process list."
        ),
    ] = None
    tls_ca_file: Annotated[
        Path | None, Field(description="PEM file of the authority that signed the server.")
    ] = None
    tls_cert_file: Annotated[
        Path | None, Field(description="PEM certificate of this client, with `tls_key_file`.")
    ] = None
    tls_key_file: Annotated[
        Path | None, Field(description="PEM key of this client, with `tls_cert_file`.")
    ] = None
    tls_check_hostname: Annotated[
        bool, Field(description="Check that the server's certificate names the host asked for.")
    ] = True
    key_prefix: Annotated[
        _Word,
        Field(
            description="Put before an operation id to make the name of its stream. Publishers "
            "use the same.",
        ),
    ] = "operation-progress:"
    group: Annotated[
        _Word,
        Field(
            description="Consumer group that all replicas share: the dispatch cursor of a "
            "stream. Replicas with different groups are separate gateways.",
        ),
    ] = "tidegate"
    connect_timeout_s: Annotated[
        float,
        Field(ge=0.05, le=120, description="Longest time to connect, TLS and login included."),
    ] = 5.0
    reply_timeout_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=120,
            description="A command without a reply for this long means the connection is dead. "
            "5 s outlives a slow fork for a snapshot.",
        ),
    ] = 5.0
    heartbeat_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=60,
            description="A quiet connection is asked for a reply this often: a half-open one "
            "would otherwise look like a quiet stream.",
        ),
    ] = 2.0
    backoff_min_s: Annotated[
        float,
        Field(ge=0.001, le=60, description="First wait before reconnecting; doubled each time."),
    ] = 0.05
    backoff_max_s: Annotated[
        float,
        Field(
            ge=0.001,
            le=300,
            description="Longest wait before reconnecting. 2 s, so that viewers are live again "
            "soon after Redis is; jitter keeps replicas apart.",
        ),
    ] = 2.0
    doorbell: Annotated[
        Literal["auto", "tracking", "keyspace", "poll"],
        Field(
            description="How growth of a stream is noticed: client tracking, keyspace "
            "notifications, or a paced poll. `auto` takes the first that the server allows."
        ),
    ] = "auto"
    poll_interval_s: Annotated[
        float,
        Field(
            ge=0.01,
            le=60,
            description="Time between two looks at a stream when the doorbell is `poll`; it is "
            "the delay a viewer sees.",
        ),
    ] = 0.25

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("backoff_min_s", "<=", "backoff_max_s")
        for field, other in (
            ("tls_cert_file", "tls_key_file"),
            ("tls_key_file", "tls_cert_file"),
        ):
            if getattr(self, field) is not None and getattr(self, other) is None:
                raise rule_broken(
                    f"redis.{field}", getattr(self, field), f"needs redis.{other} beside it"
                )
        for reserved in ("tidegate:", "{tidegate}"):
            if self.key_prefix.startswith(reserved):
                raise rule_broken(
                    "redis.key_prefix",
                    self.key_prefix,
                    f"must not start with {reserved}, where the gateway keeps its own keys",
                )
        return self


class AuthSettings(Group):
    """Who a viewer is: which tokens are believed, where they may come from, which origins."""

    group_name = "auth"

    secret: Annotated[
        Secret32 | None,
        Field(
            description="Shared secret of HS256, HS384 or HS512, at least 32 bytes (48 and 64 for "
            "the longer ones). Give it by environment. One of `secret`, `key_file`, `jwks_url`."
        ),
    ] = None
    previous_secret: Annotated[
        Secret32 | None,
        Field(
            description="The secret before this one, still believed: a change of the secret signs "
            "nobody off."
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        Field(
            description="PEM file with public keys or certificates (RSA, EC, Ed25519, Ed448). "
            "Read again within a second of a change; two keys in it make a rotation."
        ),
    ] = None
    jwks_url: Annotated[
        KeysUrl | None,
        Field(description="Where the issuer publishes its keys. Must be https."),
    ] = None
    jwks_allow_http: Annotated[
        bool,
        Field(
            description="Take `jwks_url` over plain http. Whoever can change what it answers can "
            "sign in as anybody, so only for tests and a mesh with its own encryption."
        ),
    ] = False
    jwks_ca_file: Annotated[
        Path | None, Field(description="PEM file of the authority that signed the issuer's server.")
    ] = None
    jwks_min_interval_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=3_600,
            description="Least time between two fetches, whatever asks for them: anybody can "
            "make up a token with an unknown key id.",
        ),
    ] = 10.0
    jwks_max_age_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=604_800,
            description="Keys are fetched again after this long, so that a withdrawn key is "
            "forgotten. While the URL is down the old ones are used.",
        ),
    ] = 900.0
    jwks_timeout_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=60,
            description="Longest fetch of keys. A viewer with an unknown key id waits for it.",
        ),
    ] = 5.0
    algorithms: Annotated[
        Algorithms,
        Field(
            description="Narrows the algorithms. Empty: all that fit the key, which alone decides "
            "about the family; `none` never."
        ),
    ] = ()
    issuer: Annotated[
        _Claim | None,
        Field(description="What the claim `iss` must be. Unset: it is not looked at."),
    ] = None
    audience: Annotated[
        Words,
        Field(
            description="The claim `aud` must hold one of these. Empty: a token that names an "
            "audience is refused, because it is not meant for this gateway (RFC 7519, 4.1.3)."
        ),
    ] = ()
    leeway_s: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            description="Difference of clocks that `exp` and `nbf` are given; a viewer is closed "
            "this long after `exp`.",
        ),
    ] = 10.0
    require_exp: Annotated[
        bool,
        Field(description="Refuse tokens without `exp`: a lost one would be good for ever."),
    ] = True
    revoked_keep_s: Annotated[
        float,
        Field(
            ge=60,
            le=31_622_400,
            description="How long a revocation is remembered: at least the longest life of your "
            "tokens, because a revoked one is good again after it.",
        ),
    ] = 86_400.0
    user_claim: Annotated[
        _Word, Field(description="Claim with the user's id, text or a whole number.")
    ] = "sub"
    operations_claim: Annotated[
        _Word,
        Field(
            description="Claim with the operations that the token is for, a list of ids or "
            "patterns with `*`; read by the source `claims`."
        ),
    ] = "operations"
    limit_claim: Annotated[
        _Word,
        Field(
            description="Claim with the user's own limit of connections; 0 lifts it. A token "
            "without it gets the gateway's."
        ),
    ] = "connection_limit"
    token_in_query: Annotated[
        bool,
        Field(
            description="Take the token from `?token=` as well. Off: proxies, browsers and "
            "servers write URLs to their logs."
        ),
    ] = False
    cookie: Annotated[
        _CookieName | None,
        Field(
            description="Take the token from this cookie as well: a browser's `EventSource` "
            "cannot send a header. The check of `Origin` is what protects a cookie."
        ),
    ] = None
    origins: Annotated[
        Origins,
        Field(
            description="Web origins whose pages may connect, such as `https://app.example.com` "
            "or `https://*.example.com` (any sub-domain, not the domain itself). Empty: the page "
            "must come from the host that it connects to."
        ),
    ] = ()

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.previous_secret is not None and self.secret is None:
            raise rule_broken("auth.previous_secret", "***", "needs auth.secret beside it")
        plain_http = self.jwks_url is not None and not self.jwks_url.startswith("https://")
        if plain_http and not self.jwks_allow_http:
            raise rule_broken(
                "auth.jwks_url",
                self.jwks_url,
                "must start with https:// (auth.jwks_allow_http lifts this, for tests)",
            )
        self._require("jwks_min_interval_s", "<=", "jwks_max_age_s")
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
                "must hold one of HS256, HS384, HS512, which auth.secret is for",
            )
        if self.secret is None and keys and shared:
            # The oldest trick with tokens: sign with the public key as if it were a secret.
            raise rule_broken(
                "auth.algorithms",
                ",".join(self.algorithms),
                f"must not hold {shared[0]}: auth.{keys[0]} gives public keys, not a secret",
            )
        return self

    @property
    def key_settings(self) -> list[str]:
        """Names of the settings that say where keys come from; a valid `jwt` has exactly one."""
        names = ("secret", "key_file", "jwks_url")
        return [name for name in names if getattr(self, name) is not None]


class SourceSettings(Group):
    """What a viewer may watch: who is asked, and how long the answer holds."""

    group_name = "source"

    kind: Annotated[
        Literal["none", "claims", "http", "redis", "callable"] | None,
        Field(
            description="Who says whether a user may watch an operation: the token itself "
            "(`claims`), the backend (`http`), a hash in Redis (`redis`), a Python function "
            "(`callable`) or nobody (`none`). No default with `server.auth` = jwt: `none` lets "
            "everybody who is signed in watch everything."
        ),
    ] = None
    url: Annotated[
        HttpUrl | None,
        Field(
            description="For `http`: `GET <url>/<operation_id>` is sent with the viewer's token. "
            "200 (with a JSON object as state, or empty) or 204: may watch; 401, 403: may not; "
            "400, 404, 410, 422: no such operation; all else: cannot tell, so the viewer comes "
            "back later."
        ),
    ] = None
    ca_file: Annotated[
        Path | None, Field(description="PEM file of the authority that signed the backend.")
    ] = None
    function: Annotated[
        _FunctionName | None,
        Field(
            description="For `callable`: `module:function`, async. Gets user and operation; "
            "returns the state or None, or raises PermissionError or LookupError."
        ),
    ] = None
    redis_prefix: Annotated[
        _Word,
        Field(
            description="For `redis`: put before an operation id to make the name of its hash. "
            "Its fields: `owner` (a user), `users` (a JSON list, or `*`), `status`, `state` (a "
            "JSON object)."
        ),
    ] = "operation:"
    timeout_s: Annotated[
        float,
        Field(
            ge=0.01,
            le=60,
            description="Longest wait for an answer; the viewer waits for its first frame.",
        ),
    ] = 2.0
    max_state_bytes: Annotated[
        int,
        Field(
            ge=256,
            le=16 * 1_048_576,
            description="Largest answer; it becomes part of one frame.",
        ),
    ] = 65_536
    cache_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="For `http`: an answer holds this long for the same user, token and "
            "operation; 0 asks every time. A deploy brings all viewers back at once.",
        ),
    ] = 5.0
    cache_entries: Annotated[
        int,
        Field(ge=1, le=10_000_000, description="Most answers kept; the oldest give way."),
    ] = 10_000
    max_requests: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="For `http`: most requests to the backend at a time; others wait, as "
            "part of `timeout_s`.",
        ),
    ] = 32
    breaker_failures: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="For `http`: after so many failures in a row the backend is left alone.",
        ),
    ] = 5
    breaker_open_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=3_600,
            description="For `http`: how long it is left alone before one request tries again.",
        ),
    ] = 5.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        for kind, field in (("http", "url"), ("callable", "function")):
            if self.kind == kind and getattr(self, field) is None:
                raise rule_broken("source.kind", kind, f"needs source.{field}")
        for reserved in ("tidegate:", "{tidegate}"):
            if self.redis_prefix.startswith(reserved):
                raise rule_broken(
                    "source.redis_prefix",
                    self.redis_prefix,
                    f"must not start with {reserved}, where the gateway keeps its own keys",
                )
        return self


class DispatchSettings(Group):
    """How entries are taken from a stream and relayed to all replicas."""

    group_name = "dispatch"

    max_entries: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Most entries of one dispatch call. A script blocks Redis while it "
            "runs; 500 entries are a few milliseconds.",
        ),
    ] = 500
    max_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="Most bytes that one relay message carries.",
        ),
    ] = 1_048_576
    max_entry_bytes: Annotated[
        int,
        Field(
            ge=256,
            le=64 * 1_048_576,
            description="Longest entry that viewers get; a longer one arrives as `malformed`, "
            "without its content.",
        ),
    ] = 262_144
    pace_s: Annotated[
        float,
        Field(
            ge=0,
            le=0.1,
            description="Least time between two rounds of dispatch calls to one primary while two "
            "or more streams are written to in it: they go together. Saves a third of what an "
            "entry costs here and in Redis under load; 0 sends each at once.",
        ),
    ] = 0.0007
    sweep_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Each watched stream is compared with Redis this often, in case a "
            "doorbell was lost. It is a safety net, so it may be slow.",
        ),
    ] = 10.0
    follow_after: Annotated[
        int,
        Field(
            ge=1,
            le=1_000,
            description="After this many relays of other replicas in a row a replica stops "
            "racing for the stream and only listens.",
        ),
    ] = 3
    follow_arm_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=60,
            description="A listening replica arms its doorbell this often: it bounds the delay "
            "when the replica that dispatches dies.",
        ),
    ] = 1.5
    follow_grace_s: Annotated[
        float,
        Field(
            ge=0,
            le=60,
            description="A listening replica whose doorbell rings waits this long for the "
            "relay of another before it dispatches itself.",
        ),
    ] = 0.25

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("max_entry_bytes", "<=", "max_bytes")
        self._require("follow_grace_s", "<=", "follow_arm_s")
        self._require("follow_arm_s", "<=", "sweep_s")
        return self


class TopicSettings(Group):
    """An operation with viewers on this replica: its ring, its end, its bounds."""

    group_name = "topic"

    ring_entries: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Most recent entries kept per operation: replay without Redis for a "
            "viewer that was away for moments.",
        ),
    ] = 256
    ring_bytes: Annotated[
        int, Field(ge=1_024, le=256 * 1_048_576, description="Most bytes of one such ring.")
    ] = 262_144
    total_ring_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_073_741_824,
            description="Most bytes of all rings together; the longest unused give way first.",
        ),
    ] = 67_108_864
    linger_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="An operation without viewers is kept this long, so that a reload of a "
            "page finds it warm.",
        ),
    ] = 5.0
    terminal_statuses: Annotated[
        Words, Field(description="Values of `data.status` that end an operation.")
    ] = ("completed", "failed", "cancelled")
    terminal_types: Annotated[
        Words, Field(description="Entry types that end an operation, whatever their data.")
    ] = ("operation_completed", "operation_failed", "operation_cancelled")
    conflated_types: Annotated[
        Words,
        Field(
            description="Entry types of which a lagging viewer needs only the latest: each "
            "replaces the one before. All others are kept."
        ),
    ] = ("progress",)
    terminal_grace_s: Annotated[
        float,
        Field(
            ge=0,
            le=60,
            description="Time from the terminal entry to close 1000: an entry that was written "
            "a moment late is still seen.",
        ),
    ] = 0.5
    expired_grace_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="A watched stream that vanished closes its viewers with 4410 after "
            "this long; a failover or a re-creation is quicker.",
        ),
    ] = 5.0
    wait_for_stream_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=86_400,
            description="How long a viewer may wait for a stream that does not exist yet, "
            "before 4410.",
        ),
    ] = 3_600.0
    max_topics: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="Most operations with viewers on this replica; above it a new one is "
            "refused with 1013.",
        ),
    ] = 100_000

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("ring_bytes", "<=", "total_ring_bytes")
        both = sorted(set(self.terminal_types) & set(self.conflated_types))
        if both:
            raise rule_broken(
                "topic.conflated_types",
                ",".join(self.conflated_types),
                f"must not hold {both[0]}, which topic.terminal_types holds: "
                "an end is never skipped",
            )
        return self


class ViewerSettings(Group):
    """One viewer's connection: history, lag, inbound bounds, heartbeats."""

    group_name = "viewer"

    history_entries: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Newest entries sent to a viewer that comes without a cursor and does "
            "not ask for a number.",
        ),
    ] = 100
    history_max_entries: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Most entries of history that a viewer may ask for.",
        ),
    ] = 10_000
    page_entries: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Entries of one read while a viewer is caught up: what one catch-up may "
            "cost Redis and memory at a time.",
        ),
    ] = 500
    lagging_policy: Annotated[
        Literal["conflate", "replay", "disconnect"],
        Field(
            description="What a viewer that reads too slowly gets: the latest of conflated "
            "types with a `skipped` count and all other entries (`conflate`), every entry "
            "(`replay`), or close 4408 (`disconnect`)."
        ),
    ] = "conflate"
    lagging_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="With the policy `disconnect`: a viewer whose buffer stays full for this "
            "long is closed with 4408.",
        ),
    ] = 30.0
    high_water_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="With more than this unsent the viewer is lagging: it is no longer "
            "written to, only its cursor is kept.",
        ),
    ] = 65_536
    low_water_bytes: Annotated[
        int,
        Field(
            ge=0,
            le=64 * 1_048_576,
            description="With less than this unsent a lagging viewer is caught up. Set, because "
            "the event loop's own mark may be a few bytes.",
        ),
    ] = 16_384
    notsent_lowat_bytes: Annotated[
        int,
        Field(
            ge=0,
            le=64 * 1_048_576,
            description="TCP_NOTSENT_LOWAT of viewer sockets; 0 leaves the system's. Without it "
            "the kernel hides megabytes of a stuck viewer's lag.",
        ),
    ] = 16_384
    max_message_bytes: Annotated[
        int,
        Field(
            ge=125,
            le=16 * 1_048_576,
            description="Longest message a viewer may send; viewers have little to say.",
        ),
    ] = 65_536
    messages_per_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=100_000,
            description="Messages per second that one viewer may send, before it is closed.",
        ),
    ] = 50.0
    ping_interval_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Server pings: they find half-open connections and keep proxies (often "
            "60 s of patience) from closing quiet ones.",
        ),
    ] = 20.0
    ping_timeout_s: Annotated[
        float,
        Field(ge=0.1, le=3_600, description="A ping unanswered for this long ends the connection."),
    ] = 20.0
    close_timeout_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=600,
            description="Longest wait for the other side of a close before the socket is cut.",
        ),
    ] = 5.0
    max_watches: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Most operations on one multiplexed socket (`/ws`). 128 are more than a "
            "page shows, and few enough to be caught up in moments.",
        ),
    ] = 128
    sse_heartbeat_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="A quiet server-sent event stream gets a comment this often: it keeps "
            "proxies from closing it, and finds half-open connections. 15 s, as the HTML standard "
            "suggests.",
        ),
    ] = 15.0
    sse_retry_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="How long a browser's EventSource waits before it reconnects; each stream "
            "is told half to one and a half times as much, so that they do not all come at once.",
        ),
    ] = 2.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("low_water_bytes", "<", "high_water_bytes")
        self._require("history_entries", "<=", "history_max_entries")
        return self


class ReplicaSettings(Group):
    """What one replica takes on; above it, clients are told to come back and others may serve."""

    group_name = "replica"

    max_connections: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Open connections. An idle one costs about 11 KiB, so 20,000 are 220 MiB.",
        ),
    ] = 20_000
    connects_per_s: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="New connections in the long run. A core does about 8,000; half of it is "
            "left for those who are connected.",
        ),
    ] = 4_000.0
    connects_burst: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="New connections at once, above the rate; as many may be open that have "
            "not sent their request yet.",
        ),
    ] = 2_000
    header_max_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=1_048_576,
            description="Request line and headers. 16 KiB holds a token of 8 KiB and cookies.",
        ),
    ] = 16_384
    header_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=300,
            description="Time for a new connection to send its request; slower ones are cut.",
        ),
    ] = 10.0


class DrainSettings(Group):
    """How a replica goes away: slowly enough that the others notice nothing."""

    group_name = "drain"

    delay_s: Annotated[
        float,
        Field(
            ge=0,
            le=300,
            description="Between becoming not ready and the first close: load balancers need a "
            "moment to look. Kubernetes' endpoints take 1 to 2 s.",
        ),
    ] = 2.0
    window_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="Closes are spread over this time. With `delay_s` it has to fit into the "
            "grace period of the pod.",
        ),
    ] = 15.0
    absorb_per_s: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="Connects per second that the other replicas can take from this one. "
            "Where the window is too short for it, viewers are told to wait longer.",
        ),
    ] = 1_000.0
    jitter_s: Annotated[
        float,
        Field(ge=0, le=300, description="Least spread of the delays that viewers are told."),
    ] = 1.0


class SlotSettings(Group):
    """How many connections a user may have, over all replicas."""

    group_name = "slots"

    limit: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Connections per user over all replicas, unless the token says another "
            "number; 0 for no limit. 10: some tabs on some devices, and no more.",
        ),
    ] = 10
    policy: Annotated[
        Literal["refuse", "replace_oldest"],
        Field(
            description="At the limit the new connection is refused (4429), or the user's oldest "
            "is closed in its favour (4409)."
        ),
    ] = "refuse"
    when_redis_away: Annotated[
        Literal["open", "closed"],
        Field(
            description="While Redis is away new connections are counted on this replica only "
            "(`open`), or refused with 1013 (`closed`)."
        ),
    ] = "open"
    wait_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=30,
            description="Longest wait for Redis before it counts as away; a viewer waits this "
            "long at its connect.",
        ),
    ] = 2.0
    lease_s: Annotated[
        float,
        Field(
            ge=0.2,
            le=600,
            description="A replica that did not renew for this long is dead and its viewers' "
            "slots are free. 15 s outlives a slow failover.",
        ),
    ] = 15.0
    renew_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=200,
            description="A replica renews its lease, and its view of the others, this often: at "
            "most a third of the lease, so that two lost renewals harm nobody.",
        ),
    ] = 5.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.renew_s > self.lease_s / 3 + 1e-9:
            raise rule_broken(
                "slots.renew_s",
                self.renew_s,
                f"must be at most a third of slots.lease_s ({self.lease_s})",
            )
        return self


class PublishSettings(Group):
    """Publishing over HTTP, for backends that do not write to Redis themselves."""

    group_name = "publish"

    token: Annotated[
        Secret32 | None,
        Field(
            description="What a backend sends as `Authorization: Bearer`, at least 32 bytes. Give "
            "it by environment. Unset: nobody publishes over HTTP, the routes answer 403."
        ),
    ] = None
    previous_token: Annotated[
        Secret32 | None,
        Field(
            description="The token before this one, still taken: backends change over one by one."
        ),
    ] = None
    cap: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Entries kept in a stream, about (`MAXLEN ~`); 0 keeps all.",
        ),
    ] = 1_000
    ttl_s: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="A stream is gone this long after its last entry; 0 keeps it.",
        ),
    ] = 86_400
    max_body_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="Longest request; a longer one is not read to its end (413).",
        ),
    ] = 1_048_576
    max_batch: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Most entries of one request. They are written in one step, in which "
            "Redis does nothing else: 500 are a few milliseconds.",
        ),
    ] = 500
    body_timeout_s: Annotated[
        float,
        Field(ge=0.1, le=600, description="Longest time for a request's body to arrive (408)."),
    ] = 10.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.previous_token is not None and self.token is None:
            raise rule_broken("publish.previous_token", "***", "needs publish.token beside it")
        return self


class LogSettings(Group):
    """What is logged, and how it looks."""

    group_name = "log"

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Least severity that is written. Nothing is logged per entry at info."),
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "pretty"],
        Field(description="`auto`: pretty on a terminal, one JSON object per line elsewhere."),
    ] = "auto"
    connections_per_s: Annotated[
        float,
        Field(
            ge=0,
            le=10_000,
            description="Ends of connections told per second and way in (WebSocket, event stream "
            "and so on), one line each; what is above it is counted. 10 are read by nobody, and "
            "20,000 that leave with a drain would be 5 MB. 0: none is told.",
        ),
    ] = 10.0


class MetricsSettings(Group):
    """What is measured beyond what costs nothing."""

    group_name = "metrics"

    acks_per_s: Annotated[
        float,
        Field(
            ge=0,
            le=1_000,
            description="Viewers asked per second, at the most, to say that they have an entry: "
            "the latency that people see. Only those that offered it are asked. 0: none.",
        ),
    ] = 2.0


class TracingSettings(Group):
    """Spans for OpenTelemetry: where they go, and of what."""

    group_name = "tracing"

    exporter: Annotated[
        Literal["none", "otlp"],
        Field(
            description="`otlp` sends spans to a collector over OTLP/HTTP; it needs the extra "
            "`tidegate[otlp]`. Off: a `traceparent` in an entry is not even looked for."
        ),
    ] = "none"
    endpoint: Annotated[
        HttpUrl,
        Field(description="The collector's full address, with the path."),
    ] = "http://127.0.0.1:4318/v1/traces"
    headers: Annotated[
        SecretStr | None,
        AfterValidator(_check_headers),
        Field(
            description="Sent to the collector: `name=value`, several with commas between. Give "
            "it by environment: it may hold a key."
        ),
    ] = None
    service_name: Annotated[
        str,
        _pattern(
            r"^[\x20-\x7e]{1,128}$",
            "1 to 128 printable ASCII characters",
            description="`service.name` of the spans; the replica is `service.instance.id`.",
        ),
    ] = "tidegate"
    connection_ratio: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Part of the connections that are traced, from 0 to 1. Entries need no "
            "ratio: the one of their publisher holds.",
        ),
    ] = 0.01
    trust_requests: Annotated[
        bool,
        Field(
            description="Continue the trace that a viewer's request names in `traceparent`, and "
            "obey its flag. Only behind a proxy that sets this header: else anybody could have "
            "all their connections traced."
        ),
    ] = False
    queue_spans: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Spans that wait for the collector; those above it are dropped and "
            "counted. About 2 KiB each.",
        ),
    ] = 4_096
    batch_spans: Annotated[
        int, Field(ge=1, le=10_000, description="Most spans of one request to the collector.")
    ] = 512
    send_every_s: Annotated[
        float,
        Field(
            ge=0.01, le=60, description="Spans wait for others this long, unless a batch is full."
        ),
    ] = 1.0
    timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=60,
            description="Longest time for one batch, with all tries. It is lost then, and counted.",
        ),
    ] = 5.0
    flush_s: Annotated[
        float,
        Field(
            ge=0,
            le=60,
            description="Longest wait for the collector at the end of the process, after the "
            "drain. What is left is dropped and counted.",
        ),
    ] = 2.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("batch_spans", "<=", "queue_spans")
        return self


class Settings(Group):
    """All settings of a replica. Fields are groups; ``settings.viewer.high_water_bytes``."""

    group_name = ""

    server: ServerSettings = Field(default_factory=ServerSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    source: SourceSettings = Field(default_factory=SourceSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    dispatch: DispatchSettings = Field(default_factory=DispatchSettings)
    topic: TopicSettings = Field(default_factory=TopicSettings)
    viewer: ViewerSettings = Field(default_factory=ViewerSettings)
    replica: ReplicaSettings = Field(default_factory=ReplicaSettings)
    drain: DrainSettings = Field(default_factory=DrainSettings)
    slots: SlotSettings = Field(default_factory=SlotSettings)
    publish: PublishSettings = Field(default_factory=PublishSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.redis.poll_interval_s > self.dispatch.sweep_s:
            raise rule_broken(
                "redis.poll_interval_s",
                self.redis.poll_interval_s,
                f"must be at most dispatch.sweep_s ({self.dispatch.sweep_s})",
            )
        if self.server.auth == "jwt":
            if not self.auth.key_settings:
                raise rule_broken(
                    "server.auth", "jwt", "needs auth.secret, auth.key_file or auth.jwks_url"
                )
            if self.source.kind is None:
                raise rule_broken(
                    "source.kind",
                    None,
                    "must be said with server.auth = jwt; `none` lets everybody who is signed "
                    "in watch every operation",
                )
        elif self.source.kind == "claims":
            raise rule_broken("source.kind", "claims", "needs server.auth = jwt")
        if self.source.redis_prefix == self.redis.key_prefix:
            raise rule_broken(
                "source.redis_prefix",
                self.source.redis_prefix,
                "must differ from redis.key_prefix: a stream and a hash cannot share a key",
            )
        return self
