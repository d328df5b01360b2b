"""The connection to Redis or Valkey."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.redis_url import RedisUrl, check_scheme
from tidegate.model.settings.values import Constant, Word


class RedisSettings(Group):
    """The connection to Redis or Valkey: address, login, timeouts and change notifications."""

    group_name = "redis"

    url: Annotated[
        RedisUrl,
        AfterValidator(check_scheme),
        Field(
            description="`redis://host:port/db`, `rediss://` for TLS, `unix:///path`, "
            "`redis+sentinel://host1,host2/master`, `redis+cluster://host1,host2`. May contain "
            "user and password; they are never shown."
        ),
    ] = RedisUrl("redis://127.0.0.1:6379/0")
    username: Annotated[
        str | None, Field(description="ACL user; takes precedence over the one in the URL.")
    ] = None
    password: Annotated[
        SecretStr | None,
        Field(
            description="Password; takes precedence over the one in the URL. Set it by "
            "environment variable, not by flag: flags are visible in the process list."
        ),
    ] = None
    sentinel_username: Annotated[
        str | None, Field(description="ACL user for the Sentinels; needs `sentinel_password`.")
    ] = None
    sentinel_password: Annotated[
        SecretStr | None,
        Field(
            description="Password for the Sentinels. `password` is for the Redis servers and is "
            "not sent to the Sentinels."
        ),
    ] = None
    tls_ca_file: Annotated[
        Path | None,
        Field(description="PEM file of the CA that signed the certificate of the server."),
    ] = None
    tls_cert_file: Annotated[
        Path | None, Field(description="PEM client certificate; needs `tls_key_file`.")
    ] = None
    tls_key_file: Annotated[
        Path | None, Field(description="PEM key of the client certificate; needs `tls_cert_file`.")
    ] = None
    tls_check_hostname: Annotated[
        bool, Field(description="Verify that the certificate of the server matches the host name.")
    ] = True
    key_prefix: Annotated[
        Word,
        Field(
            description="Prefix of stream keys; followed by the operation id. Publishers must use "
            "the same prefix.",
        ),
    ] = "operation-progress:"
    group: Annotated[
        Word,
        Field(
            description="Consumer group shared by all replicas; it holds the dispatch cursor of "
            "each stream. Replicas with different groups are separate gateways.",
        ),
    ] = "tidegate"
    #: Timeout of a connect, including TLS and login.
    connect_timeout_s: Constant[float] = 5.0
    reply_timeout_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=120,
            description="Time without a reply after which the connection is considered lost. The "
            "default of 5 s is longer than a slow fork for a snapshot.",
        ),
    ] = 5.0
    #: Interval of PINGs on a quiet connection: a half-open one would otherwise look like a quiet
    #: stream.
    heartbeat_s: Constant[float] = 2.0
    #: First delay before reconnecting; doubled after each failure.
    backoff_min_s: Constant[float] = 0.05
    #: Maximum delay before reconnecting. 2 s, so that viewers are live again soon after Redis is;
    #: jitter keeps the replicas apart.
    backoff_max_s: Constant[float] = 2.0
    doorbell: Annotated[
        Literal["auto", "tracking", "keyspace", "poll"],
        Field(
            description="How Redis notifies replicas of new entries: client tracking, keyspace "
            "notifications or periodic polling. `auto` uses the first that the server allows."
        ),
    ] = "auto"
    #: Polling interval of a stream when the doorbell is `poll`; it is the delay that a viewer
    #: sees.
    poll_interval_s: Constant[float] = 0.25

    @model_validator(mode="after")
    def _rules(self) -> Self:
        for field, other in (
            ("tls_cert_file", "tls_key_file"),
            ("tls_key_file", "tls_cert_file"),
            ("sentinel_username", "sentinel_password"),
        ):
            if getattr(self, field) is not None and getattr(self, other) is None:
                raise rule_broken(
                    f"redis.{field}", getattr(self, field), f"needs redis.{other} beside it"
                )
        for reserved in ("tidegate:", "tidegate/", "{tidegate}"):
            if self.key_prefix.startswith(reserved):
                raise rule_broken(
                    "redis.key_prefix",
                    self.key_prefix,
                    f"must not start with {reserved}, where the gateway keeps its own keys",
                )
        return self
