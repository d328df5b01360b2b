"""Where Redis is and how to log in: one address for a single server, Sentinel or Cluster.

    redis://[user:password@]host[:port][/db]      rediss:// = with TLS
    unix://[user:password@]/path/to.sock[?db=0]
    redis+sentinel://[user:password@]h1[:26379],h2/master-name[/db]
    redis+cluster://[user:password@]h1[:6379],h2

User and password may be percent-encoded; settings of their own (`redis.username`, `redis.password`)
win over the URL's.
"""

from __future__ import annotations

import enum
import ssl
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from redis.maint_notifications import MaintNotificationsConfig

from tidegate.model.errors import SettingsError
from tidegate.model.settings import RedisSettings

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379


class Deployment(enum.Enum):
    """How many servers, and who says which one to talk to."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Node(NamedTuple):
    """One server: a host and port, or a socket's path."""

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Address(NamedTuple):
    """A parsed `redis.url` with the login that belongs to it."""

    deployment: Deployment
    nodes: tuple[Node, ...]
    service: str | None
    db: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None


def parse_address(settings: RedisSettings) -> Address:
    """Read `redis.url` and the TLS and login settings beside it.

    Raises:
        SettingsError: the URL or a TLS file cannot be used.
    """
    url = settings.url.get_secret_value()
    try:
        return _parse(url, settings)
    except (ValueError, OSError) as error:
        text = str(error) or type(error).__name__
        raise SettingsError((f"redis.url: {settings.url} cannot be used: {text}",)) from None


def _parse(url: str, settings: RedisSettings) -> Address:
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, secret = login.partition(":")
    username = settings.username or unquote(user) or None
    password = (
        settings.password.get_secret_value() if settings.password else unquote(secret) or None
    )
    scheme, _, kind = parts.scheme.partition("+")
    tls = _tls_context(settings) if scheme == "rediss" else None
    path = [unquote(part) for part in parts.path.split("/") if part]
    query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    if scheme == "unix":
        if not parts.path:
            raise ValueError("a unix address needs the socket's path, unix:///run/redis.sock")
        node = Node("localhost", 0, unquote(parts.path))
        db = _number(query.get("db", ["0"])[0], "db")
        return Address(Deployment.STANDALONE, (node,), None, db, username, password, None)
    if not hosts:
        raise ValueError("the host is missing")
    if kind == "sentinel":
        if not path:
            raise ValueError("a Sentinel address ends with the master's name, /mymaster")
        nodes = tuple(_node(host, DEFAULT_SENTINEL_PORT) for host in hosts.split(","))
        db = _number(path[1], "db") if len(path) > 1 else 0
        return Address(Deployment.SENTINEL, nodes, path[0], db, username, password, tls)
    nodes = tuple(_node(host, DEFAULT_PORT) for host in hosts.split(","))
    if kind == "cluster":
        if path and path != ["0"]:
            raise ValueError("a Cluster has database 0 only")
        return Address(Deployment.CLUSTER, nodes, None, 0, username, password, tls)
    if len(nodes) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    db = _number(path[0], "db") if path else 0
    return Address(Deployment.STANDALONE, nodes, None, db, username, password, tls)


def _node(text: str, default_port: int) -> Node:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} is no host")
    return Node(parts.hostname, parts.port or default_port)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError(f"{name} must be a number")
    return int(text)


def _tls_context(settings: RedisSettings) -> ssl.SSLContext:
    ca_file = settings.tls_ca_file
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.check_hostname = settings.tls_check_hostname
    if settings.tls_cert_file is not None:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    return context


def client_options(address: Address, settings: RedisSettings) -> dict[str, Any]:
    """Options that every redis-py connection to this address takes: login, time-outs, TLS."""
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": settings.reply_timeout_s,
        # With them on (8.1 asks every server for them) a pool does not look whether a connection is
        # still there before it hands it out: each command after a rest longer than the server's
        # `timeout` failed.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    return options | _tls_options(address, settings)


def sentinel_options(address: Address, settings: RedisSettings, retry: Any) -> dict[str, Any]:
    """The same for connections to the Sentinels, which have a login of their own.

    `retry`: the `Retry` of one half of redis-py. Without one a Sentinel that is dead or refuses is
    asked ten more times, which takes redis-py 8.1 four seconds, before the next one is.
    """
    password = settings.sentinel_password
    return client_options(address, settings) | {
        "username": settings.sentinel_username,
        "password": None if password is None else password.get_secret_value(),
        "retry": retry,
    }


def _tls_options(address: Address, settings: RedisSettings) -> dict[str, Any]:
    """The TLS part of `client_options`; empty without TLS."""
    if address.tls is None:
        return {}
    files = {
        "ssl_ca_certs": settings.tls_ca_file,
        "ssl_certfile": settings.tls_cert_file,
        "ssl_keyfile": settings.tls_key_file,
    }
    return {
        "ssl": True,
        "ssl_check_hostname": settings.tls_check_hostname,
        **{name: None if path is None else str(path) for name, path in files.items()},
    }
