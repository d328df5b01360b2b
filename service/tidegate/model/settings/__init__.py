"""The settings tree: all settings of a gateway replica, in one frozen object.

Owns names, defaults, bounds, reasons and the rules between fields; one module per group, and
``tree`` for all of them. It reads nothing: where the values come from (flags, environment, YAML
file) is the command line's business, in ``tidegate.cli.settings_source``.

Durations are seconds as floats (``_s``), sizes are bytes (``_bytes``). Each description says what
the setting does and why its default is what it is; ``docs/settings.md`` is made from them.

Invariant: a ``Settings`` that exists is valid as a whole, cannot change, and shows no secret
in ``repr``, ``str`` or a JSON dump.
"""

from tidegate.model.settings.auth import ALGORITHMS, AuthSettings
from tidegate.model.settings.cancel import CancelSettings
from tidegate.model.settings.dispatch import DispatchSettings
from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.publish import PublishSettings
from tidegate.model.settings.redis import RedisSettings
from tidegate.model.settings.redis_url import REDIS_SCHEMES, RedisUrl, redact_url
from tidegate.model.settings.server import DrainSettings, ReplicaSettings, ServerSettings
from tidegate.model.settings.slots import SlotSettings
from tidegate.model.settings.source import SourceSettings
from tidegate.model.settings.telemetry import LogSettings, MetricsSettings, TracingSettings
from tidegate.model.settings.topic import TopicSettings
from tidegate.model.settings.tree import Settings
from tidegate.model.settings.viewer import ViewerSettings

__all__ = [
    "ALGORITHMS",
    "REDIS_SCHEMES",
    "AuthSettings",
    "CancelSettings",
    "DispatchSettings",
    "DrainSettings",
    "Group",
    "LogSettings",
    "MetricsSettings",
    "PublishSettings",
    "RedisSettings",
    "RedisUrl",
    "ReplicaSettings",
    "ServerSettings",
    "Settings",
    "SlotSettings",
    "SourceSettings",
    "TopicSettings",
    "TracingSettings",
    "ViewerSettings",
    "redact_url",
    "rule_broken",
]
