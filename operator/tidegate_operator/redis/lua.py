"""The sweep's Lua scripts, from `scripts/*.lua`."""

from __future__ import annotations

from tidegate.redis.lua import CUTTING, Script, load

_PACKAGE = "tidegate_operator.redis"


def _about_streams(name: str) -> Script:
    return load(name, "prelude", package=_PACKAGE)


LOOK = load("look", "prelude", package=_PACKAGE, first=(CUTTING,))
EXPIRE = _about_streams("expire")
REVIVE = _about_streams("revive")
TRIM = _about_streams("trim")
TRIM_FEED = _about_streams("trim_feed")
REMOVE_CONSUMER = _about_streams("remove_consumer")
REMOVE_GROUP = _about_streams("remove_group")
DROP_GROUP = _about_streams("drop_group")
REMOVE_LEASES = load("remove_leases", package=_PACKAGE)
PURGE_SLOTS = load("purge_slots", package=_PACKAGE)
LEASES = load("leases", package=_PACKAGE)
