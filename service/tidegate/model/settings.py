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
        Literal["none"] | None,
        Field(
            description="How viewers are authenticated. No default: `none` lets anybody who "
            "reaches the port watch every operation, so it has to be said."
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
    shutdown_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=600,
            description="Longest time from SIGTERM to the end. 10 s fits well inside the 30 s "
            "grace period of Kubernetes.",
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
    repair_delay_s: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="After a hole in the relay, time before the stream is read, so that "
            "many holes of one stall are read once.",
        ),
    ] = 0.1

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
            "before 4404.",
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
            description="A viewer that reads nothing at all for this long is closed with 4408.",
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

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("low_water_bytes", "<", "high_water_bytes")
        self._require("history_entries", "<=", "history_max_entries")
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


class Settings(Group):
    """All settings of a replica. Fields are groups; ``settings.viewer.high_water_bytes``."""

    group_name = ""

    server: ServerSettings = Field(default_factory=ServerSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    dispatch: DispatchSettings = Field(default_factory=DispatchSettings)
    topic: TopicSettings = Field(default_factory=TopicSettings)
    viewer: ViewerSettings = Field(default_factory=ViewerSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.redis.poll_interval_s > self.dispatch.sweep_s:
            raise rule_broken(
                "redis.poll_interval_s",
                self.redis.poll_interval_s,
                f"must be at most dispatch.sweep_s ({self.dispatch.sweep_s})",
            )
        return self
