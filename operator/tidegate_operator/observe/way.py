"""The way to a gateway's Redis: what its resource names, else what the operator's settings say.

Secrets are read again once a minute, and before the next attempt after Redis refused us: a rotated
password is picked up without a restart. Another address or login makes a new `Topology`; the old
one is closed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from tidegate.model.errors import SettingsError, TidegateError
from tidegate.model.settings import Settings as GatewaySettings
from tidegate.redis.address import parse_address
from tidegate.redis.topology import Topology
from tidegate_operator.kube.errors import Forbidden, NotFound
from tidegate_operator.model.gateway import RedisSource
from tidegate_operator.model.parts import KeyOf
from tidegate_operator.settings import OperatorSettings

#: A Secret is read again after so long.
SECRETS_S = 60.0


class RedisNotNamed(TidegateError):
    """It cannot be said where Redis is, or how to log in.

    Attributes:
        reason: one word for the condition RedisReachable.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Secrets(Protocol):
    """Reads Secrets; `Kube` is one."""

    async def secret(self, name: str) -> dict[str, str]: ...


class Way(NamedTuple):
    """An open way to Redis, and the settings that the gateway's own modules take."""

    topology: Topology
    settings: GatewaySettings


class _Login(NamedTuple):
    url: str
    username: str | None
    password: str | None
    ca_file: str | None
    ca_text: str | None


class RedisWay:
    """The way for one gateway; `close` at the end."""

    def __init__(self, secrets: Secrets, settings: OperatorSettings, clock: Any) -> None:
        self._secrets = secrets
        self._settings = settings
        self._clock = clock
        self._source: RedisSource | None = None
        self._login: _Login | None = None
        self._read_at = float("-inf")
        self._way: Way | None = None
        self._folder: Path | None = None

    async def open(self, source: RedisSource) -> Way:
        """The way that this part of the resource names, the same one as before if nothing changed.

        Raises:
            RedisNotNamed: what is missing, and where.
            KubeError: a Secret could not be read now.
        """
        fresh = self._clock() - self._read_at < SECRETS_S
        if self._way is not None and source == self._source and fresh:
            return self._way
        login = await self._read(source)
        if self._way is None or login != self._login:
            way = self._make(login)
            await self._drop()
            self._way = way
        self._source, self._login, self._read_at = source, login, self._clock()
        return self._way

    def distrust(self) -> None:
        """Redis refused us: read the Secrets again before the next attempt."""
        self._read_at = float("-inf")

    async def close(self) -> None:
        """Close the connections. Any number of times."""
        await self._drop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -- inside ------------------------------------------------------------------------------------

    async def _drop(self) -> None:
        way, self._way = self._way, None
        if way is not None:
            await way.topology.close()

    async def _read(self, source: RedisSource) -> _Login:
        own = self._settings
        url = source.url
        if source.url_secret is not None:
            url = await self._value("redis.urlSecret", source.url_secret)
        named = url is not None
        if url is None and own.redis_url is not None:
            url = own.redis_url.get_secret_value()
        if url is None:
            raise RedisNotNamed(
                "NoAddress",
                "neither spec.redis.url, spec.redis.urlSecret nor the operator's setting "
                "redis_url says where Redis is: give one of them",
            )
        # The operator's own login is for the operator's own address, and for no other one.
        username, password = source.username, None
        if source.password_secret is not None:
            password = await self._value("redis.passwordSecret", source.password_secret)
        elif not named or (own.redis_url and url == own.redis_url.get_secret_value()):
            username = username or own.redis_username
            password = own.redis_password.get_secret_value() if own.redis_password else None
        ca_text = None
        if source.ca_secret is not None:
            ca_text = await self._value("redis.caSecret", source.ca_secret)
        ca_file = None if own.redis_ca_file is None else str(own.redis_ca_file)
        return _Login(url, username, password, ca_file, ca_text)

    async def _value(self, field: str, place: KeyOf) -> str:
        try:
            values = await self._secrets.secret(place.name)
        except NotFound:
            raise RedisNotNamed(
                "SecretMissing", f"spec.{field}: there is no Secret {place.name}: make it"
            ) from None
        except Forbidden:
            raise RedisNotNamed(
                "SecretForbidden",
                f"spec.{field}: the operator may not read the Secret {place.name}: allow `get` on "
                "it in its Role",
            ) from None
        value = values.get(place.key, "").strip()
        if not value:
            raise RedisNotNamed(
                "SecretMissing", f"spec.{field}: the Secret {place.name} has no key {place.key}"
            )
        return value

    def _make(self, login: _Login) -> Way:
        ca_file = login.ca_file if login.ca_text is None else str(self._ca(login.ca_text))
        tree = {
            "server": {"pod": self._settings.identity[:128]},
            "redis": {
                "url": login.url,
                "username": login.username,
                "password": login.password,
                "tls_ca_file": ca_file,
            },
        }
        try:
            settings = GatewaySettings.model_validate(tree)
            return Way(Topology(parse_address(settings.redis), settings.redis), settings)
        except ValidationError as error:
            text = "; ".join(one["msg"] for one in error.errors(include_input=False))
            raise RedisNotNamed("AddressUnusable", f"the address of Redis: {text}") from None
        except SettingsError as error:
            raise RedisNotNamed("AddressUnusable", str(error)) from None

    def _ca(self, text: str) -> Path:
        """The certificates as a file, which is how the TLS library takes them."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tidegate-operator-"))
        path = self._folder / "ca.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return path
