"""Settings of an embedded replica: from the application, or from `TIDEGATE_` variables.

Only the groups about Redis, topics and viewers matter here; unknown variables are the application's
business. Each process gets a pod name of its own, because several workers share one host.
"""

from __future__ import annotations

import os

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidegate.model.errors import SettingsError
from tidegate.model.settings import RedisUrl, Settings


class _Environment(Settings, BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="TIDEGATE_",
        env_nested_delimiter="__",
        enable_decoding=False,  # the model splits lists
        frozen=True,
        extra="ignore",
    )


def _from_environment() -> Settings:
    found = _Environment()
    constants = [
        f"{group}.{name}: no such setting"
        for group, values in found
        for name in sorted(values.model_fields_set - values.setting_names())
    ]
    if constants:
        raise SettingsError(tuple(constants))
    return found


def embedded_settings(settings: Settings | None, redis_url: str | None) -> Settings:
    """The settings given, else those of the environment; `redis_url` goes before both.

    Raises:
        SettingsError: a variable or the URL cannot be used.
    """
    try:
        found = settings or _from_environment()
        if redis_url is not None:
            redis = type(found.redis).model_validate(
                {**dict(found.redis), "url": RedisUrl(redis_url)}
            )
            found = found.model_copy(update={"redis": redis})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(tuple(problems)) from None
    server = found.server
    if "pod" not in server.model_fields_set:
        server = server.model_copy(update={"pod": f"{server.pod}-{os.getpid()}"[-128:]})
    return found.model_copy(update={"server": server})
