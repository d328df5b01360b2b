"""The connection to a gateway's Redis, as its resource names it, else the operator's settings.

Secrets are read again once a minute, and before the next attempt after Redis refused us: a rotated
password or certificate is picked up without a restart. Another address or login makes a new
`Topology`; the old one is closed before, because both take certificates from the same files.
"""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import SecretStr, ValidationError

from tidegate.model.errors import SettingsError, TidegateError
from tidegate.model.settings import RedisSettings
from tidegate.model.settings import Settings as GatewaySettings
from tidegate.redis.address import Address, parse_address
from tidegate.redis.names import GROUP, KEY_PREFIX
from tidegate.redis.topology import Topology
from tidegate_operator.kube.errors import ApiForbidden, ApiNotFound
from tidegate_operator.model.gateway import RedisSource
from tidegate_operator.model.parts import CertificateOf, KeyOf
from tidegate_operator.observe.hosts import AllowedHosts
from tidegate_operator.settings import OperatorSettings

#: A Secret is read again after so long.
SECRETS_S = 60.0


class RedisNotConfigured(TidegateError):
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


class RedisConnection(NamedTuple):
    """Redis as it is reached for one gateway, and the settings that the gateway's modules take."""

    topology: Topology
    settings: GatewaySettings


class _Certificate(NamedTuple):
    """Of this client: either files of the operator's own, or the texts of a Secret.

    Attributes:
        said: what names it, for people.
    """

    said: str
    cert_file: str | None = None
    key_file: str | None = None
    cert_text: str | None = None
    key_text: str | None = None


class _Login(NamedTuple):
    """All that a connection needs.

    Attributes:
        source: the field that says where Redis is, for people.
        of_one_secret: the address and all passwords are in one Secret, whose author may send them
            wherever they like.
    """

    source: str
    of_one_secret: bool
    url: str
    key_prefix: str
    group: str
    username: str | None
    password: str | None
    sentinel_username: str | None
    sentinel_password: str | None
    ca_file: str | None
    ca_text: str | None
    check_hostname: bool
    certificate: _Certificate


class RedisConnector:
    """Opens the connection of one gateway, and keeps it; `close` at the end."""

    def __init__(self, secrets: Secrets, settings: OperatorSettings, clock: Any) -> None:
        self._secrets = secrets
        self._settings = settings
        self._clock = clock
        self._opened: tuple[RedisSource, str, str] | None = None
        self._login: _Login | None = None
        self._read_at = float("-inf")
        self._connection: RedisConnection | None = None
        self._folder: Path | None = None
        own = settings.redis_url
        self._allowed = AllowedHosts(
            settings.redis_hosts,
            None if own is None else parse_address(RedisSettings(url=own)),
        )

    async def open(
        self, source: RedisSource, *, key_prefix: str = KEY_PREFIX, group: str = GROUP
    ) -> RedisConnection:
        """The connection that this part of the resource names: the same one if nothing changed.

        Args:
            source: where Redis is.
            key_prefix: the gateway's, which its own keys carry when it is not the default.
            group: likewise.

        Raises:
            RedisNotConfigured: what is missing, and where.
            KubeError: a Secret could not be read now.
        """
        fresh = self._clock() - self._read_at < SECRETS_S
        opened = (source, key_prefix, group)
        if self._connection is not None and opened == self._opened and fresh:
            return self._connection
        login = await self._read(source, key_prefix, group)
        if self._connection is None or login != self._login:
            await self._drop()
            self._connection = self._make(login)
        self._opened, self._login, self._read_at = opened, login, self._clock()
        return self._connection

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
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.topology.close()

    async def _read(self, source: RedisSource, key_prefix: str, group: str) -> _Login:
        own = self._settings
        url, field = source.url, "spec.redis.url"
        if source.url_secret is not None:
            url = await self._value("redis.urlSecret", source.url_secret)
            field = "spec.redis.urlSecret"
        if url is None and own.redis_url is not None:
            url, field = own.redis_url.get_secret_value(), "redis_url"
        if url is None:
            raise RedisNotConfigured(
                "NoAddress",
                "neither spec.redis.url, spec.redis.urlSecret nor the operator's setting "
                "redis_url says where Redis is: give one of them",
            )
        # The operator's own login is for the operator's own address, and for no other one.
        is_own = own.redis_url is not None and url == own.redis_url.get_secret_value()
        username, password = source.username, None
        if source.password_secret is not None:
            password = await self._value("redis.passwordSecret", source.password_secret)
        elif is_own:
            username = username or own.redis_username
            password = _revealed(own.redis_password)
        sentinel_username, sentinel_password = source.sentinel_username, None
        if source.sentinel_password_secret is not None:
            sentinel_password = await self._value(
                "redis.sentinelPasswordSecret", source.sentinel_password_secret
            )
        elif is_own:
            sentinel_username = own.redis_sentinel_username
            sentinel_password = _revealed(own.redis_sentinel_password)
        ca_text = None
        if source.ca_secret is not None:
            ca_text = await self._value("redis.caSecret", source.ca_secret)
        certificate = _Certificate("")
        if source.certificate_secret is not None:
            certificate = await self._certificate(source.certificate_secret)
        elif is_own and own.redis_cert_file is not None:
            certificate = _Certificate(
                "the operator's settings redis_cert_file and redis_key_file",
                cert_file=_path(own.redis_cert_file),
                key_file=_path(own.redis_key_file),
            )
        return _Login(
            source=field,
            of_one_secret=_is_of_one_secret(source),
            url=url,
            key_prefix=key_prefix,
            group=group,
            username=username,
            password=password,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
            ca_file=_path(own.redis_ca_file),
            ca_text=ca_text,
            check_hostname=source.check_hostname,
            certificate=certificate,
        )

    async def _value(self, field: str, place: KeyOf) -> str:
        (value,) = await self._values(field, place.name, place.key)
        return value

    async def _certificate(self, place: CertificateOf) -> _Certificate:
        field, keys = "redis.certificateSecret", (place.cert_key, place.key_key)
        # Read at once: between two reads both may be replaced.
        cert_text, key_text = await self._values(field, place.name, *keys)
        said = f"spec.{field}: {' and '.join(keys)} of the Secret {place.name}"
        return _Certificate(said, cert_text=cert_text, key_text=key_text)

    async def _values(self, field: str, name: str, *keys: str) -> list[str]:
        try:
            there = await self._secrets.secret(name)
        except ApiNotFound:
            raise RedisNotConfigured(
                "SecretMissing", f"spec.{field}: there is no Secret {name}: make it"
            ) from None
        except ApiForbidden:
            raise RedisNotConfigured(
                "SecretForbidden",
                f"spec.{field}: the operator may not read the Secret {name}: allow `get` on it in "
                "its Role",
            ) from None
        values = [there.get(key, "").strip() for key in keys]
        for key, value in zip(keys, values, strict=True):
            if not value:
                raise RedisNotConfigured(
                    "SecretMissing", f"spec.{field}: the Secret {name} has no key {key}"
                )
        return values

    def _make(self, login: _Login) -> RedisConnection:
        certificate = login.certificate
        ca_file = self._file("ca.pem", login.ca_text) or login.ca_file
        cert_file = self._file("client.pem", certificate.cert_text) or certificate.cert_file
        key_file = self._file("client.key", certificate.key_text) or certificate.key_file
        if cert_file is not None and key_file is not None:
            _check_pair(certificate.said, cert_file, key_file)
        tree = {
            "server": {"pod": self._settings.identity[:128]},
            "redis": {
                "url": login.url,
                "key_prefix": login.key_prefix,
                "group": login.group,
                "username": login.username,
                "password": login.password,
                "sentinel_username": login.sentinel_username,
                "sentinel_password": login.sentinel_password,
                "tls_ca_file": ca_file,
                "tls_check_hostname": login.check_hostname,
                "tls_cert_file": cert_file,
                "tls_key_file": key_file,
            },
        }
        try:
            settings = GatewaySettings.model_validate(tree)
            address = parse_address(settings.redis)
        except ValidationError as error:
            text = "; ".join(one["msg"] for one in error.errors(include_input=False))
            raise RedisNotConfigured("AddressUnusable", f"the address of Redis: {text}") from None
        except SettingsError as error:
            raise RedisNotConfigured("AddressUnusable", str(error)) from None
        if not login.of_one_secret:
            self._check_hosts(login.source, address)
        return RedisConnection(Topology(address, settings.redis), settings)

    def _check_hosts(self, field: str, address: Address) -> None:
        if refused := self._allowed.refused(address):
            raise RedisNotConfigured(
                "HostNotAllowed",
                f"{field}: this operator logs in to {self._allowed}, so not to "
                f"{', '.join(refused)}: add it to the operator's setting redis_hosts (with the "
                "chart: operator.redisHosts), or put address and passwords into one Secret",
            )

    def _file(self, name: str, text: str | None) -> str | None:
        """A PEM text as a file, which is how the TLS library takes it; None takes it away."""
        if text is None:
            if self._folder is not None:
                (self._folder / name).unlink(missing_ok=True)
            return None
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tidegate-operator-"))
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return str(path)


def _is_of_one_secret(source: RedisSource) -> bool:
    """Certificates may come from elsewhere: their key is not sent to anyone."""
    passwords = (source.password_secret, source.sentinel_password_secret)
    address = source.url_secret
    return address is not None and {one.name for one in passwords if one} <= {address.name}


def _check_pair(said: str, cert_file: str, key_file: str) -> None:
    """Raises RedisNotConfigured for what TLS could not show, as redis-py would at each connect."""
    try:
        # Without a passphrase of ours OpenSSL would ask a terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, "")
    except ssl.SSLError as error:
        reason = f" ({error.reason.replace('_', ' ').lower()})" if error.reason else ""
        raise RedisNotConfigured(
            "CertificateUnusable",
            f"{said} must be a certificate and its own key, as PEM and not encrypted{reason}",
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RedisNotConfigured(
            "CertificateUnusable", f"{said} cannot be read: {reason}"
        ) from None


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
