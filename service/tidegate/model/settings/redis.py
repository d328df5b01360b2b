"""How Redis is reached, and what is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.redis_url import RedisUrl, check_scheme
from tidegate.model.settings.values import Constant, Word


class RedisSettings(Group):
    """The way to Redis or Valkey, and how its loss is noticed and healed."""

    group_name = "redis"

    url: Annotated[
        RedisUrl,
        AfterValidator(check_scheme),
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
    sentinel_username: Annotated[
        str | None, Field(description="ACL user at the Sentinels, with `sentinel_password`.")
    ] = None
    sentinel_password: Annotated[
        SecretStr | None,
        Field(
            description="Password of the Sentinels themselves. `password` is that of the servers "
            "they name, and is not sent to them."
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
        Word,
        Field(
            description="Put before an operation id to make the name of its stream. Publishers "
            "use the same.",
        ),
    ] = "operation-progress:"
    group: Annotated[
        Word,
        Field(
            description="Consumer group that all replicas share: the dispatch cursor of a "
            "stream. Replicas with different groups are separate gateways.",
        ),
    ] = "tidegate"
    #: Longest time to connect, TLS and login included.
    connect_timeout_s: Constant[float] = 5.0
    reply_timeout_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=120,
            description="A command without a reply for this long means the connection is dead. "
            "5 s outlives a slow fork for a snapshot.",
        ),
    ] = 5.0
    #: A quiet connection is asked for a reply this often: a half-open one would otherwise look
    #: like a quiet stream.
    heartbeat_s: Constant[float] = 2.0
    #: First wait before reconnecting; doubled each time.
    backoff_min_s: Constant[float] = 0.05
    #: Longest wait before reconnecting. 2 s, so that viewers are live again soon after Redis is;
    #: jitter keeps replicas apart.
    backoff_max_s: Constant[float] = 2.0
    doorbell: Annotated[
        Literal["auto", "tracking", "keyspace", "poll"],
        Field(
            description="How growth of a stream is noticed: client tracking, keyspace "
            "notifications, or a paced poll. `auto` takes the first that the server allows."
        ),
    ] = "auto"
    #: Time between two looks at a stream when the doorbell is `poll`; it is the delay a viewer
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
