"""Whether a gateway can work with this Redis: everything it needs, tried over its own connection.

One pass for `tidegate doctor`: where the primaries are, then for each of them the login, the
version, the change notifications, the clock, the limits and the latency; last, what the ACL allows.
It writes what a starting replica writes (`rights`, the keyspace probe), which is gone within a
second.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import hiredis

from tidegate.model.errors import RedisUnavailable, RedisUnsupported
from tidegate.model.findings import Finding, FindingLevel
from tidegate.model.settings import Settings
from tidegate.redis.address import Deployment, Node, parse_address
from tidegate.redis.batches import Batches
from tidegate.redis.doorbell import Doorbell, Prober
from tidegate.redis.examined_limits import clock, eviction, latency, output_buffer
from tidegate.redis.link import Link, connect
from tidegate.redis.rights import Rights
from tidegate.redis.topology import Topology
from tidegate.redis.version import check_version

#: Round trips that are measured, after the first.
PINGS = 20
#: For all of one server; each reply has a timeout of its own on top.
NODE_TIMEOUT_S = 20.0


class _Turns:
    """A link's turns of the loop, of no interest here."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


async def examine_redis(settings: Settings) -> list[Finding]:
    """Try all of it.

    Raises:
        SettingsError: `redis.url` or a file beside it cannot be used.
    """
    topology = Topology(parse_address(settings.redis), settings.redis)
    try:
        try:
            async with asyncio.timeout(NODE_TIMEOUT_S):
                await topology.refresh()
        except (RedisUnavailable, TimeoutError) as error:
            return [_no_primary(settings, error)]
        found: list[Finding] = []
        for node in sorted(topology.primaries(), key=str):
            found += await _examine_node(node, topology, settings)
        if not any(
            one.verdict is FindingLevel.FAILED and one.check == "connection" for one in found
        ):
            found.append(await _acl(topology, settings))
        return found
    finally:
        await topology.close()


def _no_primary(settings: Settings, error: Exception) -> Finding:
    asked = parse_address(settings.redis).deployment
    advice = {
        Deployment.SENTINEL: "check the hosts and ports of the Sentinels, the name of the master "
        "in redis.url, and redis.sentinel_password",
        Deployment.CLUSTER: "check that these are nodes of a Redis Cluster and that every slot is "
        "served; a single server has an address that starts with redis://",
    }.get(asked, "check redis.url")
    words = str(error) or "no reply"
    return Finding(str(settings.redis.url), "connection", FindingLevel.FAILED, words, advice)


async def _examine_node(node: Node, topology: Topology, settings: Settings) -> list[Finding]:
    where = str(node)
    prober = Prober(topology.address.db)
    try:
        async with asyncio.timeout(settings.redis.connect_timeout_s):
            link, greeting = await connect(
                node, topology.address, prober.on_push, lambda: None, _Turns()
            )
    except (OSError, TimeoutError, hiredis.HiredisError, RedisUnavailable) as error:
        words = str(error) or "no reply in time"
        advice = _login_advice(error, with_tls=topology.address.tls is not None)
        return [Finding(where, "connection", FindingLevel.FAILED, words, advice)]
    found = [Finding(where, "connection", FindingLevel.OK, "connected")]
    try:
        async with asyncio.timeout(NODE_TIMEOUT_S):
            found.append(await _version(where, link, greeting))
            found += _mode(where, topology.address.deployment, greeting)
            found.append(await _notifications(where, link, prober, settings))
            found.append(await _relay(where, link, topology, settings))
            info = await _info(link)
            found.append(eviction(where, info))
            found.append(output_buffer(where, await _config(link, "client-output-buffer-limit")))
            trips, offset_s = await _measure(link)
            found.append(clock(where, offset_s))
            found.append(latency(where, trips))
    except (TimeoutError, RedisUnavailable) as error:
        text = str(error) or "no reply in time"
        advice = "the server or the network is too slow, or closes connections: see its log"
        found.append(Finding(where, "connection", FindingLevel.FAILED, text, advice))
    finally:
        link.abort()
    return found


def _login_advice(error: BaseException, *, with_tls: bool) -> str:
    text = str(error)
    if "WRONGPASS" in text or "NOAUTH" in text or "invalid username" in text:
        return "check redis.username and redis.password (TIDEGATE_REDIS__PASSWORD)"
    if isinstance(error, ConnectionRefusedError):
        return "no server listens there: check host and port, and that it binds to this network"
    if with_tls:  # a server without it waits for more of what it takes for a command
        return "check that the port is the one for TLS, redis.tls_ca_file, and the server's names"
    if isinstance(error, TimeoutError):
        return "packets are dropped on the way: check the host, firewalls and network policies"
    return "check redis.url; a server with TLS has an address that starts with rediss://"


async def _version(where: str, link: Link, greeting: dict[bytes, object]) -> Finding:
    try:
        return Finding(where, "version", FindingLevel.OK, await check_version(link, greeting))
    except RedisUnsupported as error:
        advice = "upgrade to Redis 7.0 or Valkey 7.2, or later"
        return Finding(where, "version", FindingLevel.FAILED, str(error), advice)


def _mode(where: str, deployment: Deployment, greeting: dict[bytes, object]) -> list[Finding]:
    """Whether the server is what the address says, and takes writes."""
    found = []
    is_cluster = greeting.get(b"mode") == b"cluster"
    if is_cluster is not (deployment is Deployment.CLUSTER):
        text = "a node of a Cluster" if is_cluster else "not a node of a Cluster"
        scheme = "redis+cluster://" if is_cluster else "redis://"
        advice = f"use an address that starts with {scheme} as redis.url"
        found.append(Finding(where, "cluster", FindingLevel.FAILED, text, advice))
    else:
        found.append(Finding(where, "cluster", FindingLevel.OK, deployment.value))
    if greeting.get(b"role", b"master") not in (b"master", b"primary"):
        advice = "give the address of the primary, or of the Sentinels (redis+sentinel://)"
        found.append(Finding(where, "role", FindingLevel.FAILED, "a replica, read-only", advice))
    return found


async def _notifications(where: str, link: Link, prober: Prober, settings: Settings) -> Finding:
    try:
        doorbell = await prober.choose(link, settings.redis.doorbell)
    except RedisUnsupported as error:
        return Finding(where, "tracking", FindingLevel.FAILED, str(error), "see redis.doorbell")
    if doorbell is Doorbell.TRACKING:
        return Finding(where, "tracking", FindingLevel.OK, "CLIENT TRACKING works")
    if doorbell is Doorbell.KEYSPACE:
        text = "CLIENT TRACKING is refused; keyspace notifications work"
        return Finding(where, "tracking", FindingLevel.OK, text)
    return Finding(
        where,
        "tracking",
        FindingLevel.WARNING,
        "neither CLIENT TRACKING nor keyspace notifications: streams are polled, every "
        f"{settings.redis.poll_interval_s:g} s",
        "allow `+client|tracking` to the user of the gateway, or set notify-keyspace-events",
    )


async def _relay(where: str, link: Link, topology: Topology, settings: Settings) -> Finding:
    """Replicas tell each other what they have dispatched."""
    stream = f"{settings.redis.key_prefix}doctor-{secrets.token_hex(8)}"
    channel = topology.names.relay(stream.encode())
    try:
        await link.subscribed("SSUBSCRIBE", channel)
    except hiredis.ReplyError as error:
        if str(error).startswith("MOVED"):  # allowed: it only lives on another node
            return Finding(where, "relay", FindingLevel.OK, "SSUBSCRIBE is allowed")
        advice = f"allow `+ssubscribe` and `&{settings.redis.key_prefix}*` to the gateway's user"
        return Finding(where, "relay", FindingLevel.FAILED, str(error), advice)
    link.unsubscribe("SUNSUBSCRIBE", channel)
    return Finding(where, "relay", FindingLevel.OK, "SSUBSCRIBE is allowed")


async def _info(link: Link) -> dict[str, str]:
    """`INFO memory`; empty where it may not be read."""
    try:
        text = await link.call("INFO", "memory")
    except hiredis.ReplyError:
        return {}
    return _lines(text.decode(errors="replace")) if isinstance(text, bytes) else {}


def _lines(text: str) -> dict[str, str]:
    return dict(line.partition(":")[::2] for line in text.splitlines() if ":" in line)


async def _config(link: Link, name: str) -> str | None:
    """A value of `CONFIG GET`; None where it may not be read, as on most hosted servers."""
    try:
        found = await link.call("CONFIG", "GET", name)
    except hiredis.ReplyError:
        return None
    values = list(found.values()) if isinstance(found, dict) else list(found or ())[1::2]
    return values[0].decode(errors="replace") if values else None


async def _measure(
    link: Link, now: Callable[[], float] = time.time
) -> tuple[list[float], float | None]:
    """Round trips, sorted, and the server's clock minus this machine's; None: TIME is refused."""
    trips = []
    for _ in range(PINGS + 1):
        began = time.perf_counter()
        await link.call("PING")
        trips.append(time.perf_counter() - began)
    asked = now()
    try:
        seconds, micros = await link.call("TIME")
    except hiredis.ReplyError:
        return sorted(trips[1:]), None
    return sorted(trips[1:]), int(seconds) + int(micros) / 1e6 - (asked + now()) / 2


async def _acl(topology: Topology, settings: Settings) -> Finding:
    where = "all primaries" if len(topology.primaries()) > 1 else str(*topology.primaries())
    batches = Batches(topology, timeout_s=settings.redis.reply_timeout_s)
    running = asyncio.create_task(batches.run(), name="doctor: batches")
    try:
        await asyncio.sleep(0)  # it begins
        refused = await Rights(topology, settings, batches).try_now()
    except RedisUnavailable as error:
        advice = "correct what is listed above, and try again"
        return Finding(where, "acl", FindingLevel.UNKNOWN, str(error), advice)
    finally:
        running.cancel()
        await asyncio.wait({running})
    if not refused:
        return Finding(
            where, "acl", FindingLevel.OK, "all commands that a gateway needs are allowed"
        )
    words = "; ".join(map(str, refused))
    advice = "extend the ACL of its user: docs/protocol.md has the complete line"
    return Finding(where, "acl", FindingLevel.FAILED, f"refused: {words}", advice)
