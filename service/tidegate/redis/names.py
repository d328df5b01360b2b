"""The names of what one gateway keeps and says in Redis, apart from the streams themselves.

A gateway is (server, database, key prefix, group): what differs in any of them neither hears nor
counts nor closes what is another's. A channel belongs to no database in Redis, so its name has to
say it. With the defaults nothing is added, which is what the contract's tables show.

    {tidegate}:pods                         the defaults
    {tidegate}/1/tidegate/jobs%3A:pods      database 1, group tidegate, prefix jobs:

The part in braces keeps a gateway's own keys in one slot of a Cluster. A relay channel lies in its
stream's slot: it is the stream's name, or has it in braces.
"""

from __future__ import annotations

from urllib.parse import quote

from tidegate.model.errors import SettingsError
from tidegate.model.settings import RedisSettings
from tidegate.redis.address import Address

KEY_PREFIX = str(RedisSettings.model_fields["key_prefix"].default)
GROUP = str(RedisSettings.model_fields["group"].default)


class Names:
    """For one database, prefix and group."""

    def __init__(self, db: int, key_prefix: str, group: str) -> None:
        own = (db, key_prefix, group)
        # Quoted, so that no two gateways come to the same text.
        said = f"/{db}/{quote(group, '')}/{quote(key_prefix, '')}"
        suffix = "" if own == (0, KEY_PREFIX, GROUP) else said
        own_keys = f"{{tidegate}}{suffix}"
        self.pods = f"{own_keys}:pods".encode()
        self.pods_clock = f"{own_keys}:pods:clock".encode()
        self.figures_prefix = f"{own_keys}:pod:"
        self.revoked = f"{own_keys}:revoked".encode()
        self.control = f"{own_keys}:control".encode()
        #: Each user has a key of its own, spread over a Cluster.
        self.slots_prefix = f"tidegate{suffix}:slots:".encode()
        # The prefix is in the stream's name already.
        relay = "" if (db, group) == (0, GROUP) else f"/{db}/{quote(group, '')}"
        self._relay_suffix = relay.encode()
        #: The prefix brings a hash tag of its own, so a stream's name is not put in braces.
        self._tagged = bool(relay) and same_slot(key_prefix) == key_prefix

    @classmethod
    def of(cls, address: Address, redis: RedisSettings) -> Names:
        """Those of the gateway with these settings.

        Raises:
            SettingsError: see `same_slot`.
        """
        return cls(address.db, redis.key_prefix, redis.group)

    def relay(self, stream: bytes) -> bytes:
        """The sharded channel on which entries of this stream are relayed."""
        if not self._relay_suffix:
            return stream
        return same_slot(stream.decode()).encode() + self._relay_suffix

    def stream(self, relay: bytes) -> bytes:
        """The stream whose entries come on this channel; the reverse of `relay`."""
        if not self._relay_suffix:
            return relay
        name = relay.removesuffix(self._relay_suffix)
        return name if self._tagged else name[1:-1]


def same_slot(key: str) -> str:
    """A name to begin other keys with, so that they live in the cluster slot of `key`.

    Raises:
        SettingsError: the key prefix has a brace where no other key can follow it.
    """
    start = key.find("{")
    end = key.find("}", start + 1)
    if start >= 0 and end > start + 1:
        return key  # it has a hash tag, which a longer name keeps
    if "}" in key:
        raise SettingsError(
            (f"redis.key_prefix: no key can be kept beside {key}; leave the brace out",)
        )
    return f"{{{key}}}"


def cancel_key(stream: str) -> str | None:
    """The key beside a stream that says that someone asks to cancel its operation; None where the
    key prefix allows none.
    """
    try:
        return f"{same_slot(stream)}:cancel"
    except SettingsError:
        return None
