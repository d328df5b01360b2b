"""What a gateway with the default database, prefix and group keeps in Redis is named so."""

from tidegate.redis.names import GROUP, KEY_PREFIX, Names

NAMES = Names(0, KEY_PREFIX, GROUP)
