"""The whole tree, and the rules between its groups."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tidegate.model.settings.auth import AuthSettings
from tidegate.model.settings.cancel import CancelSettings
from tidegate.model.settings.dispatch import DispatchSettings
from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.publish import PublishSettings
from tidegate.model.settings.redis import RedisSettings
from tidegate.model.settings.server import DrainSettings, ReplicaSettings, ServerSettings
from tidegate.model.settings.slots import SlotSettings
from tidegate.model.settings.source import SourceSettings
from tidegate.model.settings.telemetry import LogSettings, MetricsSettings, TracingSettings
from tidegate.model.settings.topic import TopicSettings
from tidegate.model.settings.viewer import ViewerSettings


class Settings(Group):
    """All settings of a replica, in groups; the most frequently needed groups come first."""

    group_name = ""

    server: ServerSettings = Field(default_factory=ServerSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    source: SourceSettings = Field(default_factory=SourceSettings)
    cancel: CancelSettings = Field(default_factory=CancelSettings)
    slots: SlotSettings = Field(default_factory=SlotSettings)
    viewer: ViewerSettings = Field(default_factory=ViewerSettings)
    topic: TopicSettings = Field(default_factory=TopicSettings)
    publish: PublishSettings = Field(default_factory=PublishSettings)
    drain: DrainSettings = Field(default_factory=DrainSettings)
    replica: ReplicaSettings = Field(default_factory=ReplicaSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    dispatch: DispatchSettings = Field(default_factory=DispatchSettings)

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.server.auth == "jwt":
            if not self.auth.key_settings:
                raise rule_broken(
                    "server.auth", "jwt", "needs auth.secret, auth.key_file or auth.jwks_url"
                )
            if self.source.kind is None:
                raise rule_broken(
                    "source.kind",
                    None,
                    "is required with server.auth = jwt; `none` lets every authenticated user "
                    "subscribe to every operation",
                )
        elif self.source.kind == "claims":
            raise rule_broken("source.kind", "claims", "needs server.auth = jwt")
        any_port = [origin for origin in self.auth.origins if origin.endswith(":*")]
        if any_port and not self.server.demo:
            raise rule_broken(
                "auth.origins",
                any_port[0],
                "needs server.demo: any program on this machine may serve a page of that origin",
            )
        if self.source.redis_prefix == self.redis.key_prefix:
            raise rule_broken(
                "source.redis_prefix",
                self.source.redis_prefix,
                "must differ from redis.key_prefix: a stream and a hash cannot share a key",
            )
        return self
