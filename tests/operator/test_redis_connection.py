"""The connection to Redis: whose login goes where, what is missing, certificates as files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from tests.operator.secrets import Clock, Secrets, settings
from tests.servers import binaries
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Options, Server
from tests.servers.tls import Certificates
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisUrl
from tidegate.redis.pods import Pods
from tidegate_operator.model.gateway import RedisSource
from tidegate_operator.observe.redis_connection import (
    SECRETS_S,
    RedisConnection,
    RedisConnector,
    RedisNotConfigured,
)
from tidegate_operator.redis.primary import PrimaryClient


class Scene:
    def __init__(self) -> None:
        self.clock, self.secrets = Clock(), Secrets()
        own = settings(redis_hosts="one,127.0.0.1,127.1")
        self.connector = RedisConnector(self.secrets, own, self.clock)

    async def open(self, **fields: Any) -> RedisConnection:
        return await self.connector.open(source(**fields))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.connector.close()


def source(**fields: Any) -> RedisSource:
    return RedisSource.model_validate(fields)


async def asked(connection: RedisConnection) -> None:
    """Everybody who connects: the leases by the topology, the sweep by a connection of its own."""
    await Pods(connection.topology, connection.settings, clock=lambda: 0.0).roster()
    await connection.topology.refresh()
    (node,) = connection.topology.primaries()
    primary = PrimaryClient(node, connection.topology.address, connection.settings.redis)
    try:
        assert (await primary.identity()).is_primary
    finally:
        await primary.close()


async def refused(connection: RedisConnection, words: str) -> None:
    """In these words, where they come through: in TLS 1.3 the server judges after the handshake,
    what we have sent by then makes its kernel reset the connection, and its alert may be lost.
    """
    async with asyncio.timeout(20):
        while True:
            with pytest.raises(RedisUnavailable) as caught:
                await asked(connection)
            if not re.search("reset by peer|Broken pipe|closed by server", caught.value.detail):
                break
    assert words in str(caught.value)


# --- Secrets


async def test_secrets_are_read_once_a_minute_and_when_redis_refused_us(scene: Scene) -> None:
    scene.secrets.values["redis"] = {"url": "redis://one:6379", "ca": "PEM"}
    place = {"name": "redis", "key": "url"}
    first = await scene.open(urlSecret=place)
    assert await scene.open(urlSecret=place) is first
    assert scene.secrets.reads == 1
    scene.clock.now += SECRETS_S
    assert await scene.open(urlSecret=place) is first  # read, and the same
    scene.secrets.values["redis"]["url"] = "redis://two:6379"
    assert await scene.open(urlSecret=place) is first
    scene.connector.distrust()
    second = await scene.open(urlSecret=place)
    assert str(next(iter(second.topology.primaries()))) == "two:6379"


ONE = {"url": "rediss://one"}


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"urlSecret": {"name": "none", "key": "url"}}, "SecretMissing", "no Secret none"),
        ({"urlSecret": {"name": "redis", "key": "uri"}}, "SecretMissing", "has no key uri"),
        ({"urlSecret": {"name": "redis", "key": "bad"}}, "AddressUnusable", "must start with"),
        (
            {**ONE, "sentinelPasswordSecret": {"name": "redis", "key": "of-sentinel"}},
            "SecretMissing",
            r"spec\.redis\.sentinelPasswordSecret: the Secret redis has no key of-sentinel",
        ),
        ({**ONE, "caSecret": {"name": "redis", "key": "ca"}}, "AddressUnusable", "cannot be used"),
        ({**ONE, "certificateSecret": {"name": "none"}}, "SecretMissing", "no Secret none"),
        (
            {**ONE, "certificateSecret": {"name": "redis"}},
            "SecretMissing",
            r"spec\.redis\.certificateSecret: the Secret redis has no key tls\.crt",
        ),
    ],
)
async def test_what_is_missing_is_named(scene: Scene, fields: Any, reason: str, words: str) -> None:
    scene.secrets.values["redis"] = {"url": "redis://one", "bad": "geheim", "ca": "no PEM"}
    with pytest.raises(RedisNotConfigured, match=words) as told:
        await scene.open(**fields)
    assert told.value.reason == reason
    assert "geheim" not in str(told.value)


# --- where a login goes

PASSWORD = {"passwordSecret": {"name": "redis", "key": "password"}}
FROM_SECRET = {"urlSecret": {"name": "redis", "key": "url"}}
ELSEWHERE = {"passwordSecret": {"name": "other", "key": "password"}}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"url": "redis://own"}, ""),
        ({"url": "redis://OWN.:6379/3", **PASSWORD}, ""),
        ({"url": "rediss://two"}, ""),
        ({"url": "redis+sentinel://two,two:7000,[FD00::7]:26379/main", **PASSWORD}, ""),
        ({"url": "redis://own:6380", **PASSWORD}, "own:6380"),
        ({"url": "redis://mine", **PASSWORD}, "mine:6379"),
        ({"url": "redis://mine"}, "mine:6379"),
        ({"url": "redis://10.0.0.7", **PASSWORD}, "10.0.0.7:6379"),
        ({"url": "redis://own.mine", **PASSWORD}, "own.mine:6379"),
        ({"url": "redis+cluster://own,mine:7000", **PASSWORD}, "mine:7000"),
        ({"url": "redis+sentinel://two,mine/own", **PASSWORD}, "mine:26379"),
        ({"url": "redis+sentinel://[fd00::7]:6379/main"}, "fd00::7:6379"),
        ({**FROM_SECRET}, ""),
        ({**FROM_SECRET, **PASSWORD}, ""),
        ({**FROM_SECRET, **ELSEWHERE}, "author:6379"),
        (
            {**FROM_SECRET, "sentinelPasswordSecret": {"name": "other", "key": "password"}},
            "author:6379",
        ),
    ],
)
async def test_a_password_went_to_whatever_host_a_gateway_named(
    fields: dict[str, Any], refused: str
) -> None:
    """The operator reads Secrets with its own rights, not with those of who wrote the Gateway."""
    secrets = Secrets()
    secrets.values["redis"] = {"password": "geheim", "url": "redis://:geheim@author"}
    secrets.values["other"] = {"password": "geheim"}
    hosts = "two,[fd00::7]:26379, 10.0.0.8"
    own = settings(redis_url=RedisUrl("redis://own"), redis_hosts=hosts)
    connector = RedisConnector(secrets, own, Clock())
    try:
        if refused:
            with pytest.raises(
                RedisNotConfigured, match=rf"so not to {re.escape(refused)}:"
            ) as told:
                await connector.open(source(**fields))
            assert told.value.reason == "HostNotAllowed"
            assert "own:6379" in str(told.value)
            assert "geheim" not in str(told.value)
        else:
            await connector.open(source(**fields))
    finally:
        await connector.close()


# --- the operator's own login


async def test_the_operators_own_login_goes_to_its_own_address_only(
    certificates: Certificates,
) -> None:
    url = "rediss+sentinel://own/main"
    own = settings(
        redis_url=RedisUrl(url),
        redis_hosts=("elsewhere",),
        redis_password=SecretStr("geheim-own"),
        redis_sentinel_username="own-name",
        redis_sentinel_password=SecretStr("geheim-sentinel"),
        redis_cert_file=certificates.client_cert_file,
        redis_key_file=certificates.client_key_file,
    )
    given: dict[str, Any]
    for given, is_own in (
        ({}, True),
        ({"url": url}, True),
        ({"url": "rediss+sentinel://elsewhere/main"}, False),
        ({"url": "rediss+sentinel://own,elsewhere/main"}, False),
    ):
        connector = RedisConnector(Secrets(), own, Clock())
        try:
            redis = (await connector.open(source(**given))).settings.redis
        finally:
            await connector.close()
        passwords = [redis.password, redis.sentinel_password]
        if is_own:
            assert passwords == [SecretStr("geheim-own"), SecretStr("geheim-sentinel")]
            assert redis.sentinel_username == "own-name"
            assert redis.tls_cert_file == certificates.client_cert_file
            assert redis.tls_key_file == certificates.client_key_file
        else:
            assert passwords == [None, None]
            assert redis.sentinel_username is None
            assert redis.tls_cert_file is redis.tls_key_file is None


async def test_what_a_gateway_names_goes_before_the_operators_own(
    certificates: Certificates,
) -> None:
    secrets = Secrets()
    secrets.values["redis"] = {"sentinel": "named", **client(certificates)}
    own = settings(
        redis_url=RedisUrl("rediss+sentinel://own/main"),
        redis_sentinel_username="own-name",
        redis_sentinel_password=SecretStr("geheim-sentinel"),
        redis_cert_file=certificates.client_cert_file,
        redis_key_file=certificates.client_key_file,
    )
    connector = RedisConnector(secrets, own, Clock())
    place = {"name": "redis", "key": "sentinel"}
    try:
        opened = await connector.open(
            source(sentinelPasswordSecret=place, certificateSecret={"name": "redis"})
        )
        redis = opened.settings.redis
        assert redis.sentinel_password == SecretStr("named")
        assert redis.sentinel_username is None  # another user's would be of no use
        assert redis.tls_cert_file not in (None, certificates.client_cert_file)
        assert redis.tls_key_file not in (None, certificates.client_key_file)
    finally:
        await connector.close()


async def test_own_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    own = settings(
        redis_url=RedisUrl("rediss://own"), redis_cert_file=missing, redis_key_file=missing
    )
    connector = RedisConnector(Secrets(), own, Clock())
    with pytest.raises(
        RedisNotConfigured, match=r"redis_cert_file .* cannot be read: No such"
    ) as told:
        await connector.open(source())
    assert told.value.reason == "CertificateUnusable"


# --- certificates


def client(certificates: Certificates) -> dict[str, str]:
    """As a Secret of kubernetes.io/tls has it."""
    return {
        "tls.crt": certificates.client_cert_file.read_text(),
        "tls.key": certificates.client_key_file.read_text(),
    }


def another() -> dict[str, str]:
    """The same, of another authority."""
    made = trustme.CA().issue_cert("other.tidegate.test")
    (first, *_) = made.cert_chain_pems
    return {"tls.crt": first.bytes().decode(), "tls.key": made.private_key_pem.bytes().decode()}


def encrypted(key: str) -> str:
    loaded = load_pem_private_key(key.encode(), None)
    how = BestAvailableEncryption(b"passphrase")
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


NAMED: dict[str, Any] = {**ONE, "certificateSecret": {"name": "redis"}}


async def test_certificates_go_to_private_files_that_are_removed(
    scene: Scene, certificates: Certificates
) -> None:
    ca_text = certificates.ca_file.read_text()
    scene.secrets.values["redis"] = {"ca": ca_text, **client(certificates)}
    opened = await scene.open(**NAMED, caSecret={"name": "redis", "key": "ca"})
    redis = opened.settings.redis
    files = [redis.tls_ca_file, redis.tls_cert_file, redis.tls_key_file]
    wanted = [ca_text, *client(certificates).values()]
    for file, text in zip(files, wanted, strict=True):
        assert file is not None
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert file.read_text() == text.strip()
    # A resource that names no certificate any longer leaves none behind.
    await scene.open(**ONE)
    assert not [file for file in files if file is not None and file.exists()]
    opened = await scene.open(**NAMED)
    assert opened.settings.redis.tls_key_file is not None
    folder = opened.settings.redis.tls_key_file.parent
    await scene.connector.close()
    assert not folder.exists()


async def test_a_rotated_certificate_is_picked_up(scene: Scene, certificates: Certificates) -> None:
    scene.secrets.values["redis"] = client(certificates)
    first = await scene.open(**NAMED)
    scene.secrets.values["redis"] = renewed = another()
    assert await scene.open(**NAMED) is first
    scene.clock.now += SECRETS_S
    second = await scene.open(**NAMED)
    assert second is not first
    for file, text in zip(
        (second.settings.redis.tls_cert_file, second.settings.redis.tls_key_file),
        renewed.values(),
        strict=True,
    ):
        assert file is not None
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text() == text.strip()


@pytest.mark.parametrize(
    ("changed", "reason", "words"),
    [
        ({"tls.crt": ""}, "SecretMissing", r"has no key tls\.crt"),
        ({"tls.key": " \n"}, "SecretMissing", r"has no key tls\.key"),
        ({"tls.crt": "geheim"}, "CertificateUnusable", "as PEM and not encrypted"),
        ({"tls.key": "geheim"}, "CertificateUnusable", "as PEM and not encrypted"),
        ({"tls.key": "gehéim \0\x1b[2J"}, "CertificateUnusable", "as PEM and not encrypted"),
        ({"tls.key": "the certificate"}, "CertificateUnusable", "as PEM and not encrypted"),
        ({"tls.key": "encrypted"}, "CertificateUnusable", "as PEM and not encrypted"),
        ({"tls.key": "another's"}, "CertificateUnusable", "key values mismatch"),
    ],
)
async def test_a_certificate_that_cannot_be_shown_is_told(
    scene: Scene, certificates: Certificates, changed: dict[str, str], reason: str, words: str
) -> None:
    """And when it is mended the connection is there again, even if it is the one from before."""
    good = client(certificates)
    scene.secrets.values["redis"] = good
    await scene.open(**NAMED)
    texts = {
        "the certificate": good["tls.crt"],
        "encrypted": encrypted(good["tls.key"]),
        "another's": another()["tls.key"],
    }
    bad = {key: texts.get(text, text) for key, text in changed.items()}
    scene.secrets.values["redis"] = good | bad
    scene.clock.now += SECRETS_S
    for _ in range(2):
        with pytest.raises(RedisNotConfigured, match=words) as told:
            await scene.open(**NAMED)
        assert told.value.reason == reason
        assert str(told.value).startswith("spec.redis.certificateSecret: ")
        assert "the Secret redis" in str(told.value)
        assert "geh" not in str(told.value)
        assert "BEGIN" not in str(told.value)
    scene.secrets.values["redis"] = good
    redis = (await scene.open(**NAMED)).settings.redis
    assert redis.tls_key_file is not None
    assert redis.tls_key_file.read_text() == good["tls.key"].strip()


@pytest.mark.real("tls-server")
async def test_a_redis_that_wants_a_certificate(
    scene: Scene, certificates: Certificates, tmp_path: Path
) -> None:
    """The gateway could log in, and the operator could not."""
    options = Options(tls=certificates, password="pw", config={"tls-auth-clients": "yes"})
    stranger = Certificates(tmp_path)
    async with Server(binaries.require("tls-server"), options) as server:
        scene.secrets.values |= {
            "redis": {"ca": certificates.ca_file.read_text(), "pw": "pw", **client(certificates)},
            "stranger": client(stranger),
        }
        fields: dict[str, Any] = {
            "url": f"rediss://{server.address}",
            "passwordSecret": {"name": "redis", "key": "pw"},
            "caSecret": {"name": "redis", "key": "ca"},
        }
        await refused(await scene.open(**fields), "certificate required")
        certificate = {"certificateSecret": {"name": "stranger"}}
        await refused(await scene.open(**fields, **certificate), "unknown ca")
        await asked(await scene.open(**fields, certificateSecret={"name": "redis"}))


@pytest.mark.real("tls-server")
async def test_a_redis_whose_certificate_has_another_name(
    scene: Scene, certificates: Certificates
) -> None:
    """The gateway could be told to let it pass, and the operator could not."""
    options = Options(tls=certificates, config={"tls-auth-clients": "no"})
    async with Server(binaries.require("tls-server"), options) as server:
        scene.secrets.values["redis"] = {"ca": certificates.ca_file.read_text()}
        fields: dict[str, Any] = {
            "url": f"rediss://127.1:{server.port}",  # 127.0.0.1, in words that it does not have
            "caSecret": {"name": "redis", "key": "ca"},
        }
        with pytest.raises(RedisUnavailable, match="Hostname mismatch"):
            await asked(await scene.open(**fields))
        await asked(await scene.open(**fields, checkHostname=False))


@pytest.mark.real("valkey9")
async def test_sentinels_with_a_password_of_their_own(scene: Scene) -> None:
    """The gateway could ask them, and the operator could not."""
    async with Sentinels(
        binaries.embedded(),
        Options(password="of the servers"),
        replicas=0,
        sentinel_password="of the Sentinels",
    ) as sentinel:
        scene.secrets.values["redis"] = {"ours": "of the servers", "theirs": "of the Sentinels"}
        fields: dict[str, Any] = {
            "url": sentinel.url,
            "passwordSecret": {"name": "redis", "key": "ours"},
        }
        with pytest.raises(RedisUnavailable, match="the Sentinels refuse the login"):
            await asked(await scene.open(**fields))
        theirs = {"name": "redis", "key": "theirs"}
        await asked(await scene.open(**fields, sentinelPasswordSecret=theirs))
        by_name = {"sentinelUsername": "default", "sentinelPasswordSecret": theirs}
        await asked(await scene.open(**fields, **by_name))
