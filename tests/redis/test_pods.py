"""Leases of pods on real servers: who lives, who is dead, and when nobody can tell."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.harness.names import NAMES
from tests.harness.waiting import until
from tests.redis.pod import LEASE_S, Pod, at_once, leases, let_time_pass, lose_data
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tidegate.core.slots import pod_of
from tidegate.model.errors import RedisUnavailable
from tidegate.redis import lua
from tidegate.redis.batches import run_script
from tidegate.redis.pods import LeaseFigures, Pods


async def grown_up(client: Any, *pods: Pod) -> None:
    """A lease after the first lease of all: views say who is dead."""
    for _ in range(4):
        for pod in pods:
            await pod.pods.renew()
        await let_time_pass(client, pods, LEASE_S / 3)
    for pod in pods:
        await pod.pods.renew()


async def test_an_incarnation_tells_its_pod_and_its_birth(any_server: Server) -> None:
    async with Pod(any_server.url, "gate-0.east") as pod, any_server.client() as client:
        before_ms = int(time.time() * 1000)
        await pod.pods.renew()
        incarnation = pod.pods.incarnation
        assert incarnation is not None
        name, born, token = incarnation.rsplit(".", 2)
        assert (name, pod_of(incarnation)) == ("gate-0.east", "gate-0.east")
        assert abs(int(born) - before_ms) < 5_000
        assert len(token) == 12
        assert await leases(client) == [incarnation]


async def test_a_renewal_extends_the_lease_and_keeps_the_incarnation(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as pod, redis_server.client() as client:
        await pod.pods.renew()
        first = pod.pods.incarnation
        for _ in range(6):
            await let_time_pass(client, [pod], LEASE_S / 3)
            await pod.pods.renew()
        assert pod.pods.incarnation == first
        assert pod.pods.is_held
        assert pod.pods.counts["lapses"] == 0


async def test_a_lapsed_incarnation_is_never_revived(redis_server: Server) -> None:
    async with (
        Pod(redis_server.url, "a") as slow,
        Pod(redis_server.url, "b") as other,
        redis_server.client() as client,
    ):
        await slow.pods.renew()
        before = slow.pods.incarnation
        returns: list[str] = []
        slow.pods.on_return = lambda: returns.append(str(slow.pods.incarnation))
        await other.pods.renew()
        await let_time_pass(client, [slow], LEASE_S + 1)
        assert not slow.pods.is_held
        await other.pods.renew()
        assert before not in other.pods.view().live
        await slow.pods.renew()
        assert slow.pods.incarnation != before
        assert returns == [slow.pods.incarnation]
        assert before not in await leases(client)


async def test_a_lease_that_only_the_server_saw_lapse_is_not_revived_either(
    redis_server: Server,
) -> None:
    """The member is still there, expired: nobody has renewed since."""
    async with Pod(redis_server.url, "a") as pod, redis_server.client() as client:
        await pod.pods.renew()
        before = pod.pods.incarnation
        await let_time_pass(client, [], LEASE_S + 1)  # the pod's clock stood still
        assert pod.pods.is_held
        await pod.pods.renew()
        assert pod.pods.incarnation != before
        assert await leases(client) == [pod.pods.incarnation]


async def test_a_join_that_is_sent_again_makes_no_second_incarnation(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as pod, redis_server.client() as client:
        args = (15_000, "", "a", "0123456789ab")
        keys = (NAMES.pods, NAMES.pods_clock)
        first = await run_script(pod.topology, lua.POD_RENEW, keys, args)
        again = await run_script(pod.topology, lua.POD_RENEW, keys, args)
        assert first[0] == again[0]
        assert await client.zcard(NAMES.pods) == 1


async def test_views_are_numbered_and_births_lie_between_them(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        view = a.pods.view()
        async with Pod(redis_server.url, "b") as b:
            await b.pods.renew()
            born = int(str(b.pods.incarnation).rsplit(".", 2)[1])
            await a.pods.renew()
            assert 0 < view.order < born < a.pods.view().order


async def test_numbers_grow_also_when_the_servers_clock_steps_back(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        await client.hincrby(NAMES.pods_clock, "order", 3_600_000)  # given out an hour ahead of now
        await a.pods.renew()
        view = a.pods.view()
        async with Pod(redis_server.url, "b") as b:
            await b.pods.renew()
            assert int(str(b.pods.incarnation).rsplit(".", 2)[1]) > view.order > 0


async def test_a_dead_pod_does_not_live_on_when_the_servers_clock_steps_back(
    redis_server: Server,
) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await a.pods.renew()
        now_ms = int(time.time() * 1000)
        await client.zadd(NAMES.pods, {f"dead.{now_ms}.0123456789ab": now_ms + 3_600_000})
        for _ in range(5):
            await a.pods.renew()
            await let_time_pass(client, [a], LEASE_S / 3)
        await a.pods.renew()
        assert a.pods.view().live == (a.pods.incarnation,)


async def test_views_say_nobody_is_dead_until_a_lease_after_the_leases_were_lost(
    redis_server: Server,
) -> None:
    async with (
        Pod(redis_server.url, "a") as a,
        Pod(redis_server.url, "b") as b,
        redis_server.client() as client,
    ):
        await grown_up(client, a, b)
        assert a.pods.view().order > 0
        await lose_data(client)
        await a.pods.renew()
        assert a.pods.view().order == 0  # b is not in it and lives
        await let_time_pass(client, [a, b], LEASE_S / 3)
        await b.pods.renew()
        assert b.pods.counts["lapses"] == 1
        await grown_up(client, a, b)
        assert a.pods.view().order > 0


async def test_after_an_outage_everybody_gets_a_lease_to_come_back(redis_server: Server) -> None:
    """Redis was away for longer than a lease and has its data: no pod was dead."""
    async with (
        Pod(redis_server.url, "a") as a,
        Pod(redis_server.url, "b") as b,
        redis_server.client() as client,
    ):
        await grown_up(client, a, b)
        await let_time_pass(client, [a, b], 60)
        await a.pods.renew()
        assert a.pods.view().order == 0
        await b.pods.renew()
        assert b.pods.view().order == 0
        await grown_up(client, a, b)
        assert set(a.pods.view().live) == {a.pods.incarnation, b.pods.incarnation}
        assert a.pods.view().order > 0


async def test_a_pod_that_is_the_first_after_an_outage_takes_nobody_for_dead(
    redis_server: Server,
) -> None:
    """It cannot know whether Redis was away or all the others were."""
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        async with Pod(redis_server.url, "b") as newcomer:
            await let_time_pass(client, [a], LEASE_S + 1)
            await newcomer.pods.renew()
            assert newcomer.pods.view().order == 0
            await grown_up(client, newcomer)
            assert newcomer.pods.view().order > 0
            assert newcomer.pods.view().live == (newcomer.pods.incarnation,)


async def test_a_pod_that_restarts_within_a_lease_waits_for_no_more_than_its_end(
    redis_server: Server,
) -> None:
    async with redis_server.client() as client:
        async with Pod(redis_server.url, "a") as a:
            await grown_up(client, a)
        async with Pod(redis_server.url, "a") as again:
            await let_time_pass(client, [], 2)
            await again.pods.renew()
            assert again.pods.view().order > 0
            assert len(again.pods.view().live) == 2
            for _ in range(3):
                await let_time_pass(client, [again], LEASE_S / 3)
                await again.pods.renew()
            assert again.pods.view().live == (again.pods.incarnation,)


async def test_a_view_older_than_a_lease_does_not_say_who_is_dead(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a, redis_server.client() as client:
        await grown_up(client, a)
        assert a.pods.view().order > 0
        a.clock.added_s += LEASE_S
        assert a.pods.view().order == 0


async def test_leaving_frees_the_lease_and_nothing_renews_it(any_server: Server) -> None:
    async with Pod(any_server.url, "a") as a, any_server.client() as client:
        await a.pods.renew()
        incarnation = a.pods.incarnation
        await asyncio.gather(a.pods.renew(), a.pods.leave(), a.pods.leave())
        assert await leases(client) == []
        assert not await client.exists(f"{NAMES.figures_prefix}{incarnation}")
        with pytest.raises(RedisUnavailable):
            await a.pods.ensure()


async def test_leaving_before_the_first_lease(redis_server: Server) -> None:
    async with Pod(redis_server.url, "a") as a:
        await a.pods.leave()
        assert a.pods.stats().held is False


async def test_the_roster_has_every_live_pod_with_its_figures(any_server: Server) -> None:
    figures = LeaseFigures(
        connections=7, deliveries_per_s=12.34, loop_lag_ms=0.5, undispatched=3, ready=True
    )
    async with Pod(any_server.url, "a") as a, Pod(any_server.url, "b") as b:
        telling = Pods(a.topology, a.settings, figures=lambda: figures)
        begun = time.monotonic()
        await telling.renew()
        await b.pods.renew()
        roster = {pod_of(row.incarnation): row for row in await b.pods.roster()}
        assert roster.keys() == {"a", "b"}
        # Both ends are cut to whole milliseconds.
        least = 15_000 - 1_000 * (time.monotonic() - begun) - 2
        assert least <= roster["a"].lease_left_ms <= 15_000
        started = roster["a"].figures.pop("started")
        assert abs(int(started) - time.time() * 1000) < 5_000
        assert roster["a"].figures == {
            "pod": "a",
            "connections": "7",
            "deliveries_per_s": "12.3",
            "loop_lag_ms": "0.5",
            "undispatched": "3",
            "ready": "1",
        }


async def test_the_lease_of_a_dead_process_is_ended_by_its_neighbour(any_server: Server) -> None:
    """A supervisor knows that a worker is dead; its slots need not wait until the lease lapses."""
    async with Pod(any_server.url, "a") as dead, Pod(any_server.url, "b") as alive:
        leased: list[str] = []
        dead.pods.on_lease = leased.append
        await dead.pods.renew()
        await dead.pods.renew()
        await alive.pods.renew()
        await alive.pods.end_leases(leased)
        await alive.pods.end_leases(leased)  # it may be told again, and of those long gone
        await alive.pods.end_leases([])
        assert leased == [dead.pods.incarnation]
        await alive.pods.renew()
        assert alive.pods.view().live == (alive.pods.incarnation,)


async def test_a_lease_with_a_name_of_any_bytes_stops_nobody(any_server: Server) -> None:
    """It ended each renewal, and each look of the operator, with a UnicodeDecodeError."""
    async with Pod(any_server.url, "a") as a, any_server.client() as client:
        await client.zadd(NAMES.pods, {b"\xff\xfe": 1e15})
        await a.pods.renew()
        assert a.pods.stats().held
        assert "a" in {pod_of(row.incarnation) for row in await a.pods.roster()}


async def test_a_renewal_fails_soon_when_redis_hangs_and_at_once_when_that_is_known(
    redis_server: Server,
) -> None:
    # The first renewal and the last have to come within this wait, too.
    waits = {"wait_s": 3, "reply_timeout_s": 60}
    async with Pod(redis_server.url, "a", slots=waits) as a:
        await a.pods.renew()
        redis_server.pause()
        try:
            begun = time.monotonic()
            with pytest.raises(RedisUnavailable):
                await a.pods.renew()
            assert time.monotonic() - begun < 30, "not the 60 s of `redis.reply_timeout_s`"
            a.clock.added_s += LEASE_S + 1
            with pytest.raises(RedisUnavailable):
                await at_once(a.pods.ensure())
        finally:
            redis_server.resume()
        await a.pods.renew()
        assert await a.pods.ensure() == a.pods.incarnation


async def renewed(pod: Pod) -> None:
    """By a renewal that begins from now on: one may be on its way already."""
    before = pod.pods.counts["renewals"]
    await until(lambda: pod.pods.counts["renewals"] > before + 1)


async def test_it_renews_by_itself_and_comes_back_after_an_outage(redis_server: Server) -> None:
    quick = {"renew_s": 0.1}
    async with (
        Pod(redis_server.url, "a", lives=True, slots=quick) as a,
        redis_server.client() as client,
    ):
        back = asyncio.Event()
        a.pods.on_return = back.set
        async with asyncio.timeout(20):
            await back.wait()
        first = a.pods.incarnation
        for _ in range(4):  # longer than a lease
            await let_time_pass(client, [a], LEASE_S / 3)
            await renewed(a)
        assert a.pods.incarnation == first
        back.clear()
        await redis_server.kill()
        await redis_server.restart()
        async with asyncio.timeout(20):
            await back.wait()
        assert a.pods.incarnation not in (None, first)
        assert a.pods.counts["lapses"] == 1


async def test_on_a_cluster(cluster: Cluster) -> None:
    async with Pod(cluster.url, "a") as a, Pod(cluster.url, "b") as b:
        await a.pods.renew()
        await b.pods.renew()
        assert len(await a.pods.roster()) == 2
        await b.pods.leave()
        await a.pods.renew()
        assert a.pods.view().live == (a.pods.incarnation,)


async def test_on_sentinel_over_a_failover(sentinel: Sentinels) -> None:
    async with Pod(sentinel.url, "a") as a:
        await a.pods.renew()
        first = a.pods.incarnation
        await sentinel.synced()  # the replica has the lease
        await sentinel.fail_over()

        async def renewed() -> bool:
            try:
                await a.pods.renew()
            except RedisUnavailable:
                return False
            return True

        await until(renewed, "the client does not find the new primary")
        assert a.pods.incarnation == first
