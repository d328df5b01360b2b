"""Where publishers write: a URL, or settings for what a URL cannot say (prefix, TLS files).

Without either it is `TIDEGATE_REDIS__URL`, which the gateway reads as well.
"""

from __future__ import annotations

import os

from pydantic import ValidationError

from tidegate.model.errors import SettingsError
from tidegate.model.settings import RedisSettings, RedisUrl

URL_VARIABLE = "TIDEGATE_REDIS__URL"


def redis_settings(redis: str | RedisSettings | None) -> RedisSettings:
    """Settings of the Redis to write to.

    Raises:
        SettingsError: the URL cannot be used.
    """
    if isinstance(redis, RedisSettings):
        return redis
    url = redis or os.environ.get(URL_VARIABLE)
    try:
        return RedisSettings() if url is None else RedisSettings(url=RedisUrl(url))
    except ValidationError as error:
        problems = [f"redis.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(tuple(problems)) from None
