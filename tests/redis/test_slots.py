"""Slots of users on real servers: the limit over all pods, and what makes it whole again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.harness.waiting import until
from tests.redis.lossy import Fate, LossyTopology
from tests.redis.pod import (
    LEASE_S,
    Pod,
    at_once,
    held,
    let_time_pass,
    lose_data,
    slot_settings,
)
from tests.redis.test_pods import grown_up
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tidegate.core.slots import Full, Replaced, Taken, Victim, new_connection_id
from tidegate.model.errors import RedisUnavailable
from tidegate.redis import lua
from tidegate.redis.batches import run_script
from tidegate.redis.slots import ROUND_LEASES, TTL_LEASES


async def holds(client: Any, user: str, connections: set[str]) -> bool:
    return (await held(client, user)).keys() == connections


LIMIT_3 = {"limit": 3}


async def test_the_limit_holds_over_all_pods(any_server: Server) -> None:
    async with (
        Pod(any_server.url, "a", slots=LIMIT_3) as a,
        Pod(any_server.url, "b", slots=LIMIT_3) as b,
        any_server.client() as client,
    ):
        for pod in (a, b):
            await pod.turn()
        assert await a.slots.take("ann", "c1") == Taken(1)
        assert await b.slots.take("ann", "c2") == Taken(2)
        assert await a.slots.take("ann", "c3") == Taken(3)
        assert await b.slots.take("ann", "c4") == Full(3, 3)
        assert await b.slots.take("bob", "c5") == Taken(1)
        assert await held(client, "ann") == {"c1": "a", "c2": "b", "c3": "a"}
        b.slots.release("ann", "c2")
        await b.settle()
        assert await a.slots.take("ann", "c6") == Taken(3)


async def test_many_at_once_and_never_more_than_the_limit(any_server: Server) -> None:
    patient = {"wait_s": 30}  # 400 at once are much for a busy machine
    async with (
        Pod(any_server.url, "a", slots=patient) as a,
        Pod(any_server.url, "b", slots=patient) as b,
        any_server.client() as client,
    ):
        for pod in (a, b):
            await pod.turn()
        verdicts = await asyncio.gather(
            *(pod.slots.take("ann", new_connection_id()) for pod in (a, b) for _ in range(200))
        )
        assert sum(isinstance(verdict, Taken) for verdict in verdicts) == 10
        assert len(await held(client, "ann")) == 10


async def test_a_take_that_is_sent_again_counts_once(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a", slots=LIMIT_3) as a:
        await a.turn()
        assert await a.slots.take("ann", "c1") == Taken(1)
        assert await a.slots.take("ann", "c1") == Taken(1)
        await a.connect("ann", 2)
        assert await a.slots.take("ann", "c1") == Taken(3)


async def test_a_release_may_be_repeated_and_may_be_of_a_stranger(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await a.turn()
        kept, left = await a.connect("ann", 2)
        for _ in range(2):
            a.slots.release("ann", left)
            a.slots.release("ann", "never seen")
            a.slots.release("nobody", left)
        await a.settle()
        assert (await held(client, "ann")).keys() == {kept}
        assert a.slots.stats().users == 1


async def test_the_token_may_say_another_limit_or_none(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a", slots=LIMIT_3) as a, redis_server.client() as client:
        await a.turn()
        await a.connect("ann", 3)
        assert await a.slots.take("ann", "c4", 3) == Full(3, 3)
        assert await a.slots.take("ann", "c5", 5) == Taken(4)
        assert await a.slots.take("ann", "c6", 0) == Taken(0)
        assert len(await held(client, "ann")) == 4


@pytest.mark.parametrize("user", ["{x}", "a b\n", "ж" * 100, "\udc80", "a:b:{", "x" * 500])
async def test_any_user_has_slots_of_his_own(redis_server: Server, user: str) -> None:
    async with Pod(redis_server.url, "a", slots={"limit": 1}) as a:
        await a.turn()
        assert await a.slots.take(user, "c1") == Taken(1)
        assert await a.slots.take(user, "c2") == Full(1, 1)
        a.slots.release(user, "c1")
        await a.settle()
        assert await a.slots.take(user, "c2") == Taken(1)


async def test_the_oldest_give_way_where_that_is_the_policy(any_server: Server) -> None:
    policy = {"limit": 2, "policy": "replace_oldest"}
    async with (
        Pod(any_server.url, "a", slots=policy) as a,
        Pod(any_server.url, "b", slots=policy) as b,
        any_server.client() as client,
    ):
        for pod in (a, b):
            await pod.turn()
        assert await a.slots.take("ann", "c1") == Taken(1)
        await let_time_pass(client, [a, b], 0.01)
        assert await b.slots.take("ann", "c2") == Taken(2)
        await let_time_pass(client, [a, b], 0.01)
        verdict = await b.slots.take("ann", "c3")
        assert verdict == Replaced(2, (Victim("c1", str(a.pods.incarnation)),))
        assert (await held(client, "ann")).keys() == {"c2", "c3"}
        # Its pod was not told: the next comparison finds out.
        a.slots.reassert()
        await a.settle()
        assert a.over == [("ann", "c1")]
        # A token with a smaller limit pushes out more than one.
        verdict = await b.slots.take("ann", "c4", 1)
        assert isinstance(verdict, Replaced)
        assert [victim.connection for victim in verdict.victims] == ["c2", "c3"]


async def test_slots_of_a_dead_pod_are_free_after_its_lease(redis_server: Server) -> None:
    async with Pod(redis_server.url, "b", slots=LIMIT_3) as b, redis_server.client() as client:
        async with Pod(redis_server.url, "a", slots=LIMIT_3) as a:
            await grown_up(client, a, b)
            await a.connect("ann", 3)
        assert await b.slots.take("ann", "c1") == Full(3, 3)
        for _ in range(3):
            await let_time_pass(client, [b], LEASE_S / 3)
            await b.pods.renew()
        await let_time_pass(client, [b], 0.1)
        await b.pods.renew()
        assert await b.slots.take("ann", "c1") == Taken(1)
        assert (await held(client, "ann")).keys() == {"c1"}


async def test_a_new_pod_is_not_dead_for_a_view_that_is_older(redis_server: Server) -> None:
    async with (
        Pod(redis_server.url, "a", slots=LIMIT_3) as a,
        Pod(redis_server.url, "b", slots=LIMIT_3) as b,
        redis_server.client() as client,
    ):
        await grown_up(client, a)
        assert a.pods.view().order > 0
        await b.turn()
        await b.connect("ann", 3)
        assert await a.slots.take("ann", "c1") == Full(3, 3)


async def test_a_paused_pod_comes_back_and_gives_up_what_is_above_the_limit(
    redis_server: Server,
) -> None:
    async with (
        Pod(redis_server.url, "a", slots=LIMIT_3) as a,
        Pod(redis_server.url, "b", slots=LIMIT_3) as b,
        redis_server.client() as client,
    ):
        await grown_up(client, a, b)
        first = await a.connect("ann", 3)
        await a.connect("bob", 3)
        for _ in range(4):  # a does not renew
            await let_time_pass(client, [a, b], LEASE_S / 3)
            await b.turn()
        new = await b.connect("ann", 2)
        await a.turn()
        assert a.pods.counts["lapses"] == 1
        over = [connection for _, connection in a.over]
        assert len(over) == 2
        assert set(over) < set(first)
        assert (await held(client, "ann")).keys() == {*first, *new} - {*over}
        assert len(await held(client, "bob")) == 3
        # What was put back is younger than every view that counts the old incarnation dead.
        await b.slots.take("bob", "one more")
        assert len(await held(client, "bob")) == 3


async def test_a_take_after_a_pause_renews_first(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        before = a.pods.incarnation
        await let_time_pass(client, [a], 2 * LEASE_S)
        await a.connect("ann")
        assert a.pods.incarnation != before
        values: Any = await client.hvals("tidegate:slots:ann")
        assert [value.decode().split(" ")[0] for value in values] == [a.pods.incarnation]


@pytest.mark.parametrize("fate", [Fate.REPLY_LOST, Fate.LOST])
async def test_a_take_whose_reply_is_lost_holds_nothing(redis_server: Server, fate: Fate) -> None:
    lossy = LossyTopology(slot_settings(redis_server.url, "a").redis)
    async with (
        Pod(redis_server.url, "a", topology=lossy) as a,
        redis_server.client() as client,
    ):
        await a.turn()
        await a.connect("bob")  # the script is known to the server
        lossy.fate = fate
        with pytest.raises(RedisUnavailable):
            await a.slots.take("ann", "c1")
        assert len(await held(client, "ann")) == (fate is Fate.REPLY_LOST)
        lossy.fate = Fate.ANSWERED
        await a.settle()
        assert await held(client, "ann") == {}


async def test_a_take_that_is_executed_after_its_release_is_found_out(
    redis_server: Server,
) -> None:
    """Redis hung: the release came over a new connection, the take out of the old one's buffer."""
    lossy = LossyTopology(slot_settings(redis_server.url, "a").redis)
    async with (
        Pod(redis_server.url, "a", topology=lossy) as a,
        redis_server.client() as client,
    ):
        await a.turn()
        await a.connect("bob")
        lossy.fate = Fate.LATE
        with pytest.raises(RedisUnavailable):
            await a.slots.take("ann", "c1")
        lossy.fate = Fate.ANSWERED
        await a.settle()
        assert await lossy.arrive() == 1
        assert await held(client, "ann") == {"c1": "a"}
        for _ in range(6 * ROUND_LEASES):
            await let_time_pass(client, [a], LEASE_S / 3)
            a.slots.go_round(LEASE_S / 3)
            await a.turn()
        assert await held(client, "ann") == {}
        assert a.slots.stats().users == 1  # bob


async def test_a_take_on_its_way_is_not_taken_for_a_stray(redis_server: Server) -> None:
    """Its slot is in Redis, its reply not here yet, when the user is compared."""
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        await a.connect("ann")
        head = (a.pods.view().order, str(a.pods.incarnation), 60_000, 0)
        args = (*head, "on its way", 10, 0)
        await run_script(a.topology, lua.SLOT_TAKE, (b"tidegate:slots:ann",), args)
        a.slots.reassert()
        await a.settle()
        assert "on its way" in await held(client, "ann")


async def test_a_late_comparison_of_a_lapsed_incarnation_takes_nothing_over(
    redis_server: Server,
) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        (connection,) = await a.connect("ann")
        before = str(a.pods.incarnation)
        await let_time_pass(client, [a], LEASE_S + 1)
        await a.turn()
        args = (0, before, 60_000, 0, 0, connection, 10, 0)
        await run_script(a.topology, lua.SLOT_SYNC, (b"tidegate:slots:ann",), args)
        values: Any = await client.hvals("tidegate:slots:ann")
        assert [value.decode().split(" ")[0] for value in values] == [a.pods.incarnation]


async def test_a_viewer_that_leaves_while_it_asks_holds_nothing(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await a.turn()
        for turns in range(12):
            asking = asyncio.create_task(a.slots.take("ann", f"c{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            a.slots.release("ann", f"c{turns}")  # as its session does when it ends
        await until(lambda: not a.slots.batches.busy)
        await a.settle()
        assert await held(client, "ann") == {}


async def test_what_redis_lost_is_put_back_in_a_round(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        connections = await a.connect("ann", 3)
        await client.delete("tidegate:slots:ann")
        for _ in range(6 * ROUND_LEASES):
            await let_time_pass(client, [a], LEASE_S / 3)
            a.slots.go_round(LEASE_S / 3)
            await a.turn()
        assert (await held(client, "ann")).keys() == set(connections)
        assert a.over == []


async def test_a_hash_lives_while_a_pod_has_a_connection_in_it_and_not_much_longer(
    redis_server: Server,
) -> None:
    async with redis_server.client() as client:
        async with Pod(redis_server.url, "a") as a:
            await grown_up(client, a)
            await a.connect("ann")
            for _ in range(3 * TTL_LEASES + 10):
                await let_time_pass(client, [a], LEASE_S / 3)
                a.slots.go_round(LEASE_S / 3)
                await a.turn()
                assert len(await held(client, "ann")) == 1
            assert a.slots.counts["over"] == 0
        await let_time_pass(client, [], TTL_LEASES * LEASE_S)
        assert not await client.exists("tidegate:slots:ann")


async def test_a_refused_connect_keeps_no_hash_alive(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a", slots={"limit": 1}) as a, redis_server.client() as client:
        await a.turn()
        await a.connect("ann")
        await client.pexpire("tidegate:slots:ann", 5_000)
        assert await a.slots.take("ann", "c2") == Full(1, 1)
        assert await client.pttl("tidegate:slots:ann") <= 5_000


async def test_everything_is_asserted_again_after_redis_lost_its_data(
    redis_server: Server,
) -> None:
    async with (
        Pod(redis_server.url, "a") as a,
        Pod(redis_server.url, "b") as b,
        redis_server.client() as client,
    ):
        await grown_up(client, a, b)
        mine, theirs = await a.connect("ann", 4), await b.connect("ann", 5)
        await lose_data(client)
        await a.turn()
        await b.connect("ann")  # b does not know yet; its fields must not be taken for dead
        await let_time_pass(client, [a, b], 1)
        await a.connect("ann")
        await b.turn()
        assert len(await held(client, "ann")) == 10
        assert a.over == []
        assert len(b.over) == 1  # 4 + 5 + 2 connections are one too many
        assert {*mine} < (await held(client, "ann")).keys()
        assert theirs


async def test_counted_here_while_redis_is_away_and_asserted_when_it_is_back(
    redis_server: Server,
) -> None:
    quick = {"limit": 3, "renew_s": 0.1, "wait_s": 30}
    async with Pod(redis_server.url, "a", lives=True, slots=quick) as a:
        await until(lambda: a.pods.is_held)
        assert await a.slots.take("ann", "c1") == Taken(1)
        await redis_server.kill()
        await until(lambda: a.pods.counts["failures"] > 0)
        begun = time.monotonic()
        with pytest.raises(RedisUnavailable):
            await a.slots.take("ann", "c2")
        assert time.monotonic() - begun < 15, "not the 30 s of `slots.wait_s`"
        assert a.slots.take_locally("ann", "c2") == Taken(2)
        assert a.slots.take_locally("ann", "c2") == Taken(2)
        assert a.slots.take_locally("ann", "c3") == Taken(3)
        assert a.slots.take_locally("ann", "c4") == Full(3, 3)
        assert a.slots.counts["full"] == 1
        # By its clock the lease holds all the time: that Redis is back is told by a renewal.
        renewals = a.pods.counts["renewals"]
        await redis_server.restart()
        async with redis_server.client() as client:
            await until(lambda: a.pods.counts["renewals"] > renewals)
            await until(lambda: a.slots.stats().unsettled == 0 and a.pods.is_held)
            await until(lambda: holds(client, "ann", {"c1", "c2", "c3"}))
        assert await a.slots.take("ann", "c4") == Full(3, 3)
        assert a.over == []


async def test_a_hanging_redis_is_told_soon_and_then_at_once(redis_server: Server) -> None:
    # The wait is long enough for a first connect on a machine that stands still for a while.
    quick = {"lease_s": 0.6, "renew_s": 0.1, "wait_s": 3, "reply_timeout_s": 60}
    async with Pod(redis_server.url, "a", lives=True, slots=quick) as a:
        await until(lambda: a.pods.is_held)
        (kept,) = await a.connect("ann")
        redis_server.pause()
        failures = a.pods.counts["failures"]
        try:
            begun = time.monotonic()
            verdicts = await asyncio.gather(
                *(a.slots.take("ann", f"c{number}") for number in range(100)),
                return_exceptions=True,
            )
            assert time.monotonic() - begun < 30, "not the 60 s of `redis.reply_timeout_s`"
            assert all(isinstance(verdict, RedisUnavailable) for verdict in verdicts)
            await until(lambda: a.pods.counts["failures"] > failures and not a.pods.is_held)
            with pytest.raises(RedisUnavailable):
                await at_once(a.slots.take("ann", "late"))
        finally:
            redis_server.resume()
        # The hundred are in the buffers of broken connections, and may be executed now.
        async with redis_server.client() as client:
            await until(lambda: a.pods.is_held)
            await until(lambda: holds(client, "ann", {kept}))


async def test_leaving_gives_everything_back_in_batches(any_server: Server) -> None:
    async with Pod(any_server.url, "a") as a, any_server.client() as client:
        await a.turn()
        for number in range(200):
            await a.connect(f"user-{number}", 2)
        await a.slots.leave()
        await a.pods.leave()
        assert await client.keys("tidegate:slots:*") == []
        assert a.slots.stats()[:3] == (0, 0, 0)
        with pytest.raises(RedisUnavailable):
            await a.slots.take("ann", "c1")
        await a.slots.leave()
        await a.pods.leave()


async def test_a_storm_of_connects_and_its_return_are_quick(redis_server: Server) -> None:
    """No benchmark: bounds that a plain loop over users with a round trip each would miss.

    Of what is the same on a busy machine: how often Redis reads from a socket, and CPU time.
    """
    patient = {"wait_s": 30}  # 3,000 at once are much for a busy machine

    async def reads() -> int:
        return int((await client.info("stats"))["total_reads_processed"])

    async with (
        Pod(redis_server.url, "a", slots=patient) as a,
        redis_server.client() as client,
    ):
        await grown_up(client, a)
        before, begun = await reads(), time.process_time()
        await asyncio.gather(
            *(a.slots.take(f"user-{n % 1000}", new_connection_id()) for n in range(3_000))
        )
        taking = await reads() - before
        await let_time_pass(client, [a], LEASE_S + 1)
        await lose_data(client)
        before = await reads()
        await a.turn()
        assert await reads() - before < 500
        assert taking < 1_000
        assert time.process_time() - begun < 10
        assert len(await client.keys("tidegate:slots:*")) == 1_000


async def test_on_a_cluster(cluster: Cluster) -> None:
    """Users live on all primaries, the leases on one."""
    async with (
        Pod(cluster.url, "a", slots=LIMIT_3) as a,
        Pod(cluster.url, "b", slots=LIMIT_3) as b,
        cluster.client() as client,
    ):
        for pod in (a, b):
            await pod.turn()
        users = [f"user-{number}" for number in range(30)]
        await asyncio.gather(
            *(pod.slots.take(u, f"{pod.name}-{u}") for u in users for pod in (a, b))
        )
        verdicts = await asyncio.gather(*(a.connect(user) for user in users))
        assert len(verdicts) == 30
        assert await b.slots.take("user-7", "c4") == Full(3, 3)
        for server in cluster.servers:
            async with server.client() as one:
                assert await one.keys("tidegate:slots:*")
        a.slots.reassert()
        await a.settle()
        assert a.over == []
        await a.slots.leave()
        for user in users:
            assert set((await held(client, user)).values()) == {"b"}


async def test_on_sentinel_over_a_failover(sentinel: Sentinels) -> None:
    quick = {"lease_s": 15, "renew_s": 0.2, "wait_s": 5}
    async with Pod(sentinel.url, "a", lives=True, slots=quick) as a:
        await until(lambda: a.pods.is_held)
        connections = await a.connect("ann", 3)
        await sentinel.fail_over()

        async def taken() -> bool:
            try:
                await a.slots.take("ann", "after")
            except RedisUnavailable:
                return False
            return True

        await until(taken, "the client does not find the new primary")
        async with (await sentinel.primary()).client() as client:
            # The last writes before a failover may be lost; they are made again.
            await a.topology.refresh()  # as the feed does every few seconds
            await until(lambda: holds(client, "ann", {*connections, "after"}))
