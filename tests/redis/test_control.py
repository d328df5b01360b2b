"""The control channel on real servers: what is sent arrives, what is wrong does not matter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tests.harness.names import NAMES
from tests.harness.waiting import until
from tests.redis.pod import slot_settings
from tests.servers.cluster import Cluster
from tests.servers.proxy import Proxy
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tidegate.core.survey import OperationSurveyRequest, SurveyRequest
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import Settings
from tidegate.redis.address import parse_address
from tidegate.redis.control import (
    MESSAGE_MAX_BYTES,
    Control,
    DisconnectOperation,
    DisconnectUser,
    Message,
    Rebalance,
    ReplacedConnections,
    Revoke,
)
from tidegate.redis.topology import Topology

ALL: list[Message] = [
    DisconnectUser(user="ann"),
    DisconnectUser(user="ж {x}\n", reason="she asked"),
    DisconnectOperation(operation="42"),
    Revoke(user="ann", token_id="t1"),
    Revoke(user="ann", issued_before_s=1_795_418_408.5),
    ReplacedConnections(connections=("c1", "c2")),
    Rebalance(pod="gate-0", connections=120, over_s=10),
    SurveyRequest(id="a" * 24, reply_to="b" * 24, search="import"),
    OperationSurveyRequest(id="a" * 24, reply_to="b" * 24, operation="42"),
]


class Listener:
    def __init__(self, topology: Topology, settings: Settings) -> None:
        self.topology = topology
        self.heard: list[Message] = []
        self.gaps = 0
        self.replies: list[bytes] = []
        self.control = Control(
            topology, settings, self.heard.append, on_gap=self._gap, on_reply=self.replies.append
        )

    def _gap(self) -> None:
        self.gaps += 1


@asynccontextmanager
async def listening(url: str, *, reply_timeout_s: float = 10) -> AsyncIterator[Listener]:
    settings = slot_settings(url, "a", reply_timeout_s=reply_timeout_s)
    topology = Topology(parse_address(settings.redis), settings.redis)
    listener = Listener(topology, settings)
    task = asyncio.create_task(listener.control.run())
    try:
        async with asyncio.timeout(10):
            await listener.control.listening()
        yield listener
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await topology.close()
        if topology._sentinel is not None:
            for sentinel in topology._sentinel.sentinels:
                await sentinel.aclose()


async def test_every_kind_arrives_everywhere_in_order(any_server: Server) -> None:
    async with listening(any_server.url) as a, listening(any_server.url) as b:
        for message in ALL:
            assert await a.control.publish(message) == 2
        await until(lambda: len(a.heard) == len(b.heard) == len(ALL))
        assert a.heard == b.heard == ALL
        assert a.control.stats() == (True, {"connects": 1, "received": len(ALL)})


async def test_what_cannot_be_understood_is_counted_and_dropped(redis_server: Server) -> None:
    wrong = {
        b"": "unreadable",
        b"{": "unreadable",
        b"null": "unreadable",
        b'["disconnect_user"]': "unreadable",
        b'{"user":"ann"}': "unreadable",
        b'{"kind":"disconnect_user"}': "unreadable",
        b'{"kind":"disconnect_user","user":""}': "unreadable",
        b'{"kind":"disconnect_user","user":7}': "unreadable",
        b'{"kind":"disconnect_user","user":"' + b"x" * 600 + b'"}': "unreadable",
        b'{"kind":"rebalance","pod":"a","connections":-1}': "unreadable",
        b'{"kind":"disconnect_user","user":"\xff"}': "unreadable",
        b'{"kind":"survey","id":"' + b"a" * 24 + b'","reply_to":"*"}': "unreadable",
        b'{"kind":"survey","id":"'
        + b"a" * 24
        + b'","reply_to":"'
        + b"a" * 25
        + b'"}': "unreadable",
        b'{"kind":"survey_operation","id":"x","reply_to":"x","operation":"42"}': "unreadable",
        b"[" * 10_000: "unreadable",
        b'{"kind":"self_destruct","user":"ann"}': "unknown_kind",
        b'{"kind":"disconnect_user","user":"' + b"x" * MESSAGE_MAX_BYTES + b'"}': "too_long",
    }
    async with listening(redis_server.url) as a, redis_server.client() as client:
        for payload in wrong:
            assert await client.spublish(NAMES.control, payload) == 1
        # A newer replica may say more than we know.
        newer = b'{"kind":"disconnect_user","user":"ann","urgent":true}'
        await client.spublish(NAMES.control, newer)
        await until(lambda: bool(a.heard))
        assert a.heard == [DisconnectUser(user="ann")]
        counts = a.control.stats().counts
        expected = {name: list(wrong.values()).count(name) for name in set(wrong.values())}
        assert {name: counts[name] for name in expected} == expected


@settings(max_examples=examples(300), deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["kind", "user", "connections", "pod", "over_s"]),
                    inner | st.sampled_from(["disconnect_user", "rebalance", "replaced"]),
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_no_payload_does_harm(payload: Any) -> None:
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode("utf-8", "surrogatepass")

    async def receive() -> None:
        redis = slot_settings("redis://localhost:1", "a")
        topology = Topology(parse_address(redis.redis), redis.redis)
        control = Control(topology, redis, lambda _: None)
        control._received(payload)
        assert sum(control.counts.values()) == 1

    asyncio.run(receive())


async def test_a_message_that_nobody_would_accept_is_not_sent(redis_server: Server) -> None:
    async with listening(redis_server.url) as a:
        for message in (
            DisconnectUser(user=""),
            DisconnectUser(user="x" * 600),
            ReplacedConnections(connections=()),
            ReplacedConnections(connections=tuple("x" * 500 for _ in range(200))),
        ):
            with pytest.raises(ValueError, match=r"\w"):
                await a.control.publish(message)
        assert a.heard == []


async def test_after_a_lost_connection_it_listens_again_and_says_so(redis_server: Server) -> None:
    async with (
        Proxy((redis_server.host, redis_server.port)) as proxy,
        listening(f"redis://{proxy.host}:{proxy.port}/0") as a,
        listening(redis_server.url) as b,
    ):
        assert a.gaps == 0
        proxy.cut()
        await until(lambda: a.gaps == 1)
        assert await b.control.publish(ALL[0]) == 2
        await until(lambda: a.heard == [ALL[0]])


async def test_a_dead_connection_is_noticed(redis_server: Server) -> None:
    """Half open: nothing arrives and nothing is refused."""
    async with Proxy((redis_server.host, redis_server.port)) as proxy:
        url = f"redis://{proxy.host}:{proxy.port}/0"
        async with listening(url, reply_timeout_s=1) as a:
            proxy.down.swallow()
            await until(lambda: not a.control.stats().listening)
            proxy.down.flow()
            await until(lambda: a.gaps >= 1)


async def test_redis_restarts(redis_server: Server) -> None:
    async with listening(redis_server.url) as a:
        await redis_server.kill()
        await until(lambda: not a.control.stats().listening)
        with pytest.raises(RedisUnavailable):
            await a.control.publish(ALL[0])
        await redis_server.restart()
        await until(lambda: a.gaps == 1)
        assert await a.control.publish(ALL[0]) == 1
        await until(lambda: a.heard == [ALL[0]])


async def test_it_waits_for_a_redis_that_is_not_there_yet(redis_server: Server) -> None:
    await redis_server.kill()
    settings = slot_settings(redis_server.url, "a")
    topology = Topology(parse_address(settings.redis), settings.redis)
    listener = Listener(topology, settings)
    task = asyncio.create_task(listener.control.run())
    await until(lambda: listener.control.counts["connect_failures"] > 1)
    await redis_server.restart()
    await until(lambda: listener.control.stats().listening)
    assert listener.gaps == 0
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await listener.topology.close()


async def test_on_a_cluster_over_a_moved_slot(cluster: Cluster) -> None:
    async with listening(cluster.url) as a, listening(cluster.url) as b:
        assert await a.control.publish(ALL[0]) == 2
        await until(lambda: len(b.heard) == 1)
        slot = cluster.slot(NAMES.control.decode())
        await cluster.move_slot(slot, await cluster.other_than(await cluster.owner(slot)))
        await until(lambda: a.gaps >= 1 and b.gaps >= 1)

        async def both_heard() -> bool:
            # A new primary that learns late that the slot is its own ends subscriptions once more.
            return await b.control.publish(ALL[1]) == 2

        await until(both_heard, "the message does not arrive by the new primary")
        await until(lambda: ALL[1] in a.heard and ALL[1] in b.heard)


async def test_on_sentinel_over_a_failover(sentinel: Sentinels) -> None:
    async with listening(sentinel.url) as a:
        assert await a.control.publish(ALL[0]) == 1
        await sentinel.fail_over()

        async def heard() -> bool:
            # The feed asks for the topology every few seconds; at most once is what is promised.
            with suppress(RedisUnavailable):
                await a.topology.refresh()
                await a.control.publish(ALL[1])
            return ALL[1] in a.heard

        await until(heard, "the message does not arrive by the new primary")
        await until(lambda: a.gaps >= 1)


async def test_an_answer_reaches_who_asked_and_nobody_else(any_server: Server) -> None:
    async with listening(any_server.url) as a, listening(any_server.url) as b:
        assert await a.control.reply(b.control.reply_to, b"to b") == 1
        assert await b.control.reply(a.control.reply_to, b"to a") == 1
        await until(lambda: a.replies == [b"to a"] and b.replies == [b"to b"])
        assert await a.control.reply("0" * 24, b"to nobody") == 0
        assert a.heard == b.heard == []
        with pytest.raises(ValueError, match="too long"):
            await a.control.reply(b.control.reply_to, b"x" * (MESSAGE_MAX_BYTES + 1))
        # Somebody else sends one all the same.
        async with any_server.client() as client:
            channel = b"%b:%b" % (NAMES.control, a.control.reply_to.encode())
            await client.spublish(channel, b"x" * (MESSAGE_MAX_BYTES + 1))
        await until(lambda: a.control.counts["too_long"] == 1)
        assert len(a.replies) == 1


async def test_without_the_right_to_receive_answers_it_still_listens(redis_server: Server) -> None:
    """An ACL that names the control channel alone, and not what begins like it."""
    async with redis_server.client() as client:
        channel = NAMES.control.decode()
        rules = ["reset", "on", ">secret", "~*", "+@all", f"&{channel}"]
        await client.execute_command("ACL", "SETUSER", "narrow", *rules)
        url = f"redis://narrow:secret@{redis_server.host}:{redis_server.port}/0"
        async with listening(url) as a:
            assert await a.control.publish(ALL[0]) == 1
            await until(lambda: a.heard == [ALL[0]])
            assert a.control.counts["replies_refused"] == 1
        await client.execute_command("ACL", "DELUSER", "narrow")
