"""The sweep on real servers: what it does to streams, and what it leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.harness.backend import GROUP, PREFIX
from tests.harness.names import NAMES
from tests.harness.replica import Replica
from tests.harness.rights import documented_rights
from tests.operator.sweeping import (
    DAY_S,
    HOUR_S,
    MARK,
    Streamer,
    arrive,
    counts,
    held_back,
    let_time_pass,
    live,
    now_ms,
    spec,
    sweeping,
)
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Options, Server
from tidegate.model.errors import RedisUnavailable
from tidegate_operator.model.streams import Streams, TrimSpec
from tidegate_operator.redis.looking import MAX_CONSUMERS, MAX_ENTRY_BYTES
from tidegate_operator.redis.rate_limiter import Fenced
from tidegate_operator.redis.sweep import StreamSweeper
from tidegate_operator.streams.look import Look
from tidegate_operator.streams.memory import Level
from tidegate_operator.streams.report import SweepReport
from tidegate_operator.streams.retention import Judged, RetentionRules

GRACE_S = 600
DONE: dict[Any, Any] = {"status": "completed"}
ALL = spec()


@pytest.fixture
async def backend(any_server: Server) -> AsyncIterator[Streamer]:
    async with any_server.client() as client:
        yield Streamer(client)


@pytest.fixture
async def sweep(any_server: Server) -> AsyncIterator[StreamSweeper]:
    async with sweeping(any_server.url) as sweep:
        yield sweep


def near(ttl_s: float | None, expected_s: float) -> bool:
    """But for the time that a test takes."""
    return ttl_s is not None and max(0, expected_s - 60) < ttl_s <= expected_s


# -- TTLs ------------------------------------------------------------------------------------------


async def test_each_state_has_its_time(backend: Streamer, sweep: StreamSweeper) -> None:
    await backend.ended("finished")
    await backend.ended("failed", status="failed")
    await backend.ended("cancelled", age_s=1000, status="cancelled")
    await backend.ended("long ago", age_s=30 * DAY_S)
    await backend.aged("running", 60)
    await backend.aged("orphan", DAY_S + 60)
    await backend.aged("idle", DAY_S + 60)
    await backend.watch("idle")
    report = await sweep.round(ALL)
    assert near(await backend.ttl_s("finished"), HOUR_S)
    assert near(await backend.ttl_s("failed"), DAY_S)
    assert near(await backend.ttl_s("cancelled"), HOUR_S - 1000)
    for name in ("long ago", "orphan", "idle"):
        assert near(await backend.ttl_s(name), GRACE_S)
    assert await backend.ttl_s("running") is None
    going = {"finished": 3, "failed": 1, "orphan": 1, "idle": 1}
    assert counts(report.tally.streams) == going | {"running": 1}
    assert counts(report.tally.expiring) == going
    again = await sweep.round(ALL)
    assert again.tally.streams == report.tally.streams
    assert not counts(again.tally.expiring)
    assert near(await backend.ttl_s("finished"), HOUR_S)


async def test_what_is_not_a_stream_of_ours_stays_as_it_is(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    client = backend.client
    await client.set(PREFIX + "a string", "x")
    await client.hset(PREFIX + "a hash", "status", "completed")
    for name in ("operation-progres:1", "operation-progress", "xoperation-progress:1", "*", "jobs"):
        await client.xadd(name, DONE)
    report = await sweep.round(ALL)
    assert report.streams == 0
    for key in await client.keys("*"):
        assert await client.ttl(key) == -1, key


async def test_a_stream_that_we_stumble_over_keeps_none_from_its_turn(
    backend: Streamer, sweep: StreamSweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for again and again, and no stream behind it was ever swept."""
    judge = RetentionRules.judge

    def stumble(self: RetentionRules, look: Look, *others: Any) -> Judged:
        if look.key.endswith(b"odd"):
            raise ZeroDivisionError
        return judge(self, look, *others)

    monkeypatch.setattr(RetentionRules, "judge", stumble)
    for name in ("odd", *map(str, range(10))):
        await backend.ended(name)
    report = await sweep.round(ALL)
    assert counts(report.tally.streams) == {"finished": 10}
    assert counts(report.tally.expiring) == {"finished": 10}
    assert report.tally.left == {"failed": 1}
    assert await backend.ttl_s("odd") is None


async def test_the_prefix_is_taken_as_it_is_written(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await backend.client.xadd("a.b-1", DONE)
    await backend.client.xadd("axb-1", DONE)
    report = await sweep.round(spec(prefix="a.b-"))
    assert report.streams == 1
    assert await backend.client.ttl("axb-1") == -1


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "job", "*", "jobs*", "jobs?", "[jobs]", "jobs\\", "jobs ", "{tidegate}:", "jöbs"),
        *("tide", "tidegate", "tidegate:", "tidegate:slots:a", "tidegate/", "tidegate/1/x"),
    ],
)
def test_a_prefix_that_could_match_more_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        spec(prefix=prefix)


async def test_streams_of_another_team_are_left_alone_and_counted(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    """With a prefix that matched them they were given a TTL, and cut down to an entry."""
    client = backend.client
    await live(client, "pod-a")
    for name in ("theirs", "not-given", "given", "ours"):
        await backend.publish_many(name, 3)
        await backend.ended(name)
    for name in ("theirs", "not-given", "given"):
        await client.xgroup_create(PREFIX + name, "theirs", "0")
    for name in ("not-given", "given"):
        await backend.watch(name, "pod-dead")
    await client.xreadgroup(GROUP, "pod-dead", {PREFIX + "given": ">"}, noack=True)
    left = {name: await client.dump(PREFIX + name) for name in ("theirs", "not-given")}
    report = await sweep.round(ALL.model_copy(update={"trim": TrimSpec(finished_entries=1)}))
    assert counts(report.tally.streams) == {"foreign": 2, "finished": 2}
    assert report.as_dict()["streams"]["foreign"] == 2
    assert {name: await client.dump(PREFIX + name) for name in left} == left
    assert await backend.ttl_s("theirs") is None
    assert await backend.ttl_s("not-given") is None
    for name in ("given", "ours"):
        assert near(await backend.ttl_s(name), HOUR_S)
        assert await client.xlen(PREFIX + name) == 1
    assert await backend.group_names("given") == {"theirs", MARK}


async def test_a_group_of_others_that_comes_between_look_and_change_is_noticed(
    any_server: Server,
) -> None:
    async with any_server.client() as client:
        backend = Streamer(client)
        await backend.publish("1")
        await backend.ended("1")
        trimming = ALL.model_copy(update={"trim": TrimSpec(finished_entries=1)})
        late = await held_back(any_server.url, trimming)
        await client.xgroup_create(PREFIX + "1", "theirs", "0")
        assert await arrive(client, late) == [b"foreign", [b"foreign", 0]]
        assert await backend.ttl_s("1") is None
        assert await client.xlen(PREFIX + "1") == 2
        # Ids of any length are compared as numbers.
        await client.xgroup_create(PREFIX + "1", GROUP, "9-18446744073709551615")
        assert await arrive(client, late) == [b"foreign", [b"foreign", 0]]
        await client.xgroup_setid(PREFIX + "1", GROUP, "$")
        assert await arrive(client, late) == [b"done", [b"done", 1]]


async def test_an_expired_stream_that_is_written_again_gets_a_ttl_again(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await backend.ended("1")
    await sweep.round(ALL)
    await let_time_pass(backend.client, HOUR_S)
    assert not await backend.exists("1")
    await backend.publish("1")  # a late line of its log: a plain XADD, and no TTL
    assert await backend.ttl_s("1") is None
    await sweep.round(ALL)
    assert await backend.ttl_s("1") is None, "it is running, for all we know"
    await let_time_pass(backend.client, DAY_S)
    await sweep.round(ALL)
    assert near(await backend.ttl_s("1"), GRACE_S)
    await let_time_pass(backend.client, GRACE_S)
    assert not await backend.exists("1")


async def test_a_publishers_own_ttl_is_shortened_and_never_extended(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    for name, ttl_s in (("short", 50), ("long", DAY_S)):
        await backend.ended(name)
        await backend.client.expire(PREFIX + name, ttl_s)
    await backend.publish("running")
    await backend.client.expire(PREFIX + "running", 5000)
    await sweep.round(ALL)
    assert near(await backend.ttl_s("short"), 50)
    assert near(await backend.ttl_s("long"), HOUR_S)
    assert near(await backend.ttl_s("running"), 5000)
    assert await backend.group_names("running") == set()


async def test_a_stream_that_runs_again_loses_our_ttl(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await backend.ended("1", age_s=10)
    await backend.ended("2", age_s=10)
    await sweep.round(ALL)
    await backend.publish("1")
    await backend.publish("2")
    await backend.client.expire(PREFIX + "2", 5000)  # the publisher keeps house itself
    report = await sweep.round(ALL)
    assert await backend.ttl_s("1") is None
    assert await backend.group_names("1") == set(), "no mark is left"
    assert near(await backend.ttl_s("2"), 5000)
    assert counts(report.tally.done) == {"revived": 1}
    await backend.ended("1")
    await sweep.round(ALL)
    assert near(await backend.ttl_s("1"), HOUR_S)


async def test_a_stream_that_ends_again_is_kept_from_its_newest_end(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await backend.ended("1", age_s=3000)
    await sweep.round(ALL)
    assert near(await backend.ttl_s("1"), GRACE_S)
    await backend.ended("1", status="failed")
    report = await sweep.round(ALL)
    assert near(await backend.ttl_s("1"), DAY_S)
    assert counts(report.tally.expiring) == {"failed": 1}


async def test_a_watched_idle_stream_is_kept_and_goes_when_its_pod_is_dead(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await live(backend.client, "pod-a")
    await backend.aged("1", 2 * DAY_S)
    await backend.watch("1", "pod-a")
    await sweep.round(ALL)
    assert await backend.ttl_s("1") is None
    await live(backend.client, "pod-b")
    sweep.leases._until = 0
    report = await sweep.round(ALL)
    assert near(await backend.ttl_s("1"), GRACE_S)
    assert counts(report.tally.done) == {"consumers": 1}
    # It comes back, and attaches, before the stream is gone.
    await live(backend.client, "pod-a", "pod-b")
    await backend.watch("1", "pod-a")
    sweep.leases._until = 0
    await sweep.round(ALL)
    assert await backend.ttl_s("1") is None


async def test_a_replica_on_the_relay_channel_is_a_watcher(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    """After a stream was created anew, a listening replica may have no consumer in its group."""
    await backend.aged("1", 2 * DAY_S)
    await backend.ended("2")
    await backend.watch("2")
    async with backend.client.pubsub() as listener:
        for name in ("1", "2"):
            await listener.execute_command("SSUBSCRIBE", PREFIX + name)
            await listener.parse_response()
        report = await sweep.round(ALL)
        assert await backend.ttl_s("1") is None
        assert counts(report.tally.streams) == {"running": 1, "finished": 1}
        assert near(await backend.ttl_s("2"), HOUR_S), "ended is ended"
        assert await backend.group_names("2") == {GROUP, MARK}
        assert counts(report.tally.left) == {"watched": 1}
    await sweep.round(ALL)
    assert near(await backend.ttl_s("1"), GRACE_S)
    assert await backend.group_names("2") == {MARK}


async def test_a_viewer_of_a_real_gateway_keeps_its_stream(redis_server: Server) -> None:
    """And is told of the end of one that has finished, whose group the sweep may take."""
    async with (
        redis_server.client() as client,
        Replica(redis_server.url) as replica,
        sweeping(redis_server.url) as sweep,
    ):
        backend = Streamer(client)
        await backend.aged("1", 2 * DAY_S)
        async with replica.watch("1", history="all") as viewer:
            await viewer.state()
            await viewer.entries(1)
            report = await sweep.round(ALL)
            assert await backend.ttl_s("1") is None
            assert counts(report.tally.streams) == {"running": 1}
            await backend.ended("1")
            report = await sweep.round(ALL)
            assert near(await backend.ttl_s("1"), HOUR_S)
            await viewer.until(type="operation_completed")


# -- trimming, groups, consumers -------------------------------------------------------------------


async def test_ended_streams_are_trimmed_to_the_newest(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    ids = await backend.publish_many("1", 350)
    last = await backend.finish("1")
    await backend.publish_many("2", 50)
    trimming = spec(trim={"finished_entries": 20})
    report = await sweep.round(trimming)
    left: Any = await backend.client.xrange(PREFIX + "1")
    assert [entry_id.decode() for entry_id, _ in left] == [*ids[-19:], last]
    assert await backend.client.xlen(PREFIX + "2") == 50
    assert counts(report.tally.done) == {"trimmed": 1, "trimmed_entries": 331}
    assert near(await backend.ttl_s("1"), HOUR_S)
    assert not counts((await sweep.round(trimming)).tally.done)


async def test_feeds_are_trimmed_by_count_and_age_and_are_not_finished(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    async def listed(feed: str, *operations: str, status: str = "") -> list[str]:
        more = {"status": status} if status else {}
        fields = [{"type": "listed", "operation": one, **more} for one in operations]
        return [await backend.add(feed, one) for one in fields]

    async def kept(feed: str) -> list[str]:
        left: Any = await backend.client.xrange(PREFIX + feed)
        return [entry_id.decode() for entry_id, _ in left]

    long = await listed("user:1", *(f"op-{n}" for n in range(30)))
    await listed("user:2", "a", "b")
    ended = await listed("user:3", "a", status="completed")
    feeds = spec(feeds={"entries": 10, "max_age_s": HOUR_S})
    report = await sweep.round(feeds)
    assert counts(report.tally.done) == {"trimmed": 1, "trimmed_entries": 20}
    assert await kept("user:1") == long[-10:]
    assert len(await kept("user:2")) == 2
    assert await backend.client.ttl(PREFIX + "user:3") == -1, ended
    assert not counts((await sweep.round(feeds)).tally.done)

    await let_time_pass(backend.client, 2 * HOUR_S)
    young = await listed("user:2", "c")
    report = await sweep.round(feeds)
    assert await kept("user:2") == young
    newest = [one for one in long[-10:] if one.split("-")[0] == long[-1].split("-")[0]]
    left = await kept("user:1")
    assert len(left) == len(newest), "what came in the last moment is kept"
    assert len({one.split("-")[0] for one in left}) == 1
    done = {"trimmed": 1 + (len(newest) < 10), "trimmed_entries": 2 + 10 - len(newest)}
    assert counts(report.tally.done) == done


async def test_a_dead_pods_consumers_go_and_nothing_that_is_pending(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    client = backend.client
    await live(client, "pod-a")
    ids: dict[str, list[str]] = {}
    for name in ("heir", "alone"):
        ids[name] = await backend.publish_many(name, 250)
        await backend.watch(name, "pod-dead")
        await client.xreadgroup(GROUP, "pod-dead", {PREFIX + name: ">"}, count=250)
        await backend.trim(name, 120)  # what is trimmed can be claimed by nobody
    await backend.watch("heir", "pod-a")
    await client.xgroup_create(PREFIX + "heir", "theirs", "0")
    await client.xgroup_createconsumer(PREFIX + "heir", "theirs", "pod-dead")
    report = await sweep.round(ALL)
    assert counts(report.tally.done) == {"consumers": 2}
    assert await backend.consumers("heir") == ["pod-a"]
    assert await backend.consumers("alone") == []
    pending: Any = await client.xpending_range(PREFIX + "heir", GROUP, "-", "+", 1000)
    assert [row["message_id"].decode() for row in pending] == ids["heir"][-120:]
    assert {row["consumer"] for row in pending} == {b"pod-a"}
    assert await client.xpending_range(PREFIX + "alone", GROUP, "-", "+", 1000) == []
    theirs = await client.xinfo_consumers(PREFIX + "heir", "theirs")
    assert [row["name"] for row in theirs] == [b"pod-dead"], "a group of others is theirs"


async def test_many_pending_entries_take_many_rounds(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await live(backend.client, "pod-a")
    await backend.publish_many("1", 1100)
    await backend.watch("1", "pod-a", "pod-dead")
    await backend.client.xreadgroup(GROUP, "pod-dead", {PREFIX + "1": ">"}, count=1100)
    lefts = [counts((await sweep.round(ALL)).tally.left) for _ in range(3)]
    assert lefts == [{"more": 1}, {"more": 1}, {}]
    assert await backend.consumers("1") == ["pod-a"]
    waiting = await backend.client.xpending(PREFIX + "1", GROUP)
    assert waiting["pending"] == 1100


async def test_a_consumer_that_has_read_is_alive(any_server: Server) -> None:
    async with any_server.client() as client, sweeping(any_server.url, fresh_s=60) as sweep:
        backend = Streamer(client)
        await live(client, "pod-a")
        await backend.publish("1")
        await backend.watch("1", "pod-b")
        report = await sweep.round(ALL)
        assert await backend.consumers("1") == ["pod-b"]
        assert not counts(report.tally.done)


@pytest.mark.parametrize(
    ("exist", "left"),
    [(None, ["pod-a", "pod-b"]), ([], ["pod-a"]), (["pod-b"], ["pod-a", "pod-b"])],
)
async def test_dead_is_who_does_not_exist_in_kubernetes_either(
    any_server: Server, exist: list[str] | None, left: list[str]
) -> None:
    async with any_server.client() as client, sweeping(any_server.url, pods=lambda: exist) as sweep:
        backend = Streamer(client)
        await live(client, "pod-a")
        await backend.publish("1")
        await backend.watch("1", "pod-a", "pod-b")
        report = await sweep.round(ALL)
        assert await backend.consumers("1") == left
        assert report.pods_known == (exist is not None)


async def test_nobody_is_dead_after_the_leases_were_lost(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await live(backend.client, "pod-a", since_s=5)  # the first lease has not run out yet
    await backend.publish("1")
    await backend.watch("1", "pod-b")
    await backend.client.hset("tidegate:slots:ann", "c1", "pod-b.1.ab 1795")
    report = await sweep.round(ALL)
    assert await backend.consumers("1") == ["pod-b"]
    assert await backend.client.hlen("tidegate:slots:ann") == 1
    assert not report.pods_known


@pytest.mark.parametrize("junk", [{"since": "x"}, {"order": ""}, {"last": "1e999"}])
async def test_leases_that_make_no_sense_prove_nothing(
    backend: Streamer, sweep: StreamSweeper, junk: dict[Any, Any]
) -> None:
    await live(backend.client, "pod-a")
    await backend.client.hset("{tidegate}:pods:clock", mapping=junk)
    await backend.publish("1")
    await backend.watch("1", "pod-b")
    report = await sweep.round(ALL)
    assert not report.pods_known
    assert await backend.consumers("1") == ["pod-b"]


async def test_slots_of_dead_incarnations_go(backend: Streamer, sweep: StreamSweeper) -> None:
    client = backend.client
    [alive] = await live(client, "pod-a")
    now = await now_ms(client)
    young = f"pod-c.{now + 5000}.ab"
    dead = f"pod-b.{now - 50_000}.ab"
    before = f"pod-a.{now - 900_000}.ab"
    fields: dict[Any, Any] = {
        "c1": f"{alive} 1",
        "c2": f"{dead} 2",
        "c3": f"{young} 3",
        "c4": f"{before} 4",
    }
    await client.hset("tidegate:slots:ann", mapping=fields | {"c5": "nonsense", "c6": "x 5"})
    await client.hset("tidegate:slots:bob", "c1", f"{dead} 1")
    await client.set("tidegate:slots:not-a-hash", "x")
    report = await sweep.round(ALL)
    assert sorted(await client.hkeys("tidegate:slots:ann")) == [b"c1", b"c3", b"c5", b"c6"]
    assert not await client.exists("tidegate:slots:bob")
    assert counts(report.tally.done) == {"slots": 3, "slot_users": 2}


# -- late, and by another operator ---------------------------------------------------------------


async def test_a_late_ttl_does_not_meet_a_stream_that_runs_again(
    any_server: Server, backend: Streamer
) -> None:
    await backend.ended("1")
    late = await held_back(any_server.url, ALL)
    await backend.publish("1")
    assert await arrive(backend.client, late) == [b"changed"]
    assert await backend.ttl_s("1") is None


@pytest.mark.parametrize("how", ["attach", "subscribe"])
async def test_a_late_ttl_does_not_meet_a_viewer(
    any_server: Server, backend: Streamer, how: str
) -> None:
    await live(backend.client, "pod-a")
    await backend.aged("1", 2 * DAY_S)
    await backend.watch("1", "pod-dead")
    late = await held_back(any_server.url, ALL)
    if how == "attach":
        await backend.watch("1", "pod-a")
        assert (await arrive(backend.client, late))[0] == b"watched"
    else:
        async with backend.client.pubsub() as listener:
            await listener.execute_command("SSUBSCRIBE", PREFIX + "1")
            await listener.parse_response()
            assert (await arrive(backend.client, late))[0] == b"watched"
    assert await backend.ttl_s("1") is None


async def test_a_very_late_ttl_still_leaves_a_grace(any_server: Server, backend: Streamer) -> None:
    """The stream has ended and nobody has written: it may go, but not from under a reader."""
    await backend.ended("1", age_s=3000)
    [expire] = await held_back(any_server.url, ALL)
    hours_ago = await now_ms(backend.client) - 7_200_000
    args = tuple(hours_ago if n == 3 else arg for n, arg in enumerate(expire.args))
    assert await arrive(backend.client, [expire._replace(args=args)]) == [b"done"]
    assert near(await backend.ttl_s("1"), GRACE_S / 2)


async def test_late_changes_meet_what_another_operator_has_done(
    any_server: Server, backend: Streamer, sweep: StreamSweeper
) -> None:
    await everything(backend)
    late = await held_back(any_server.url, spec(**FULL))
    await sweep.round(spec(**FULL))
    before = await digest(backend.client)
    outcomes = {outcome for outcome in await arrive(backend.client, late) if type(outcome) is bytes}
    assert outcomes == {b"sooner", b"gone"}
    assert await digest(backend.client) == before


async def test_a_late_revival_does_not_meet_a_newer_end(
    any_server: Server, backend: Streamer, sweep: StreamSweeper
) -> None:
    await backend.ended("1", age_s=10)
    await sweep.round(ALL)
    await backend.publish("1")
    late = await held_back(any_server.url, ALL)
    await backend.ended("1")
    await sweep.round(ALL)
    assert await arrive(backend.client, late) == [b"changed"]
    assert near(await backend.ttl_s("1"), HOUR_S)


async def test_a_late_removal_does_not_meet_a_pod_of_the_same_name(any_server: Server) -> None:
    """It has come back and reads: its consumer is fresh."""
    async with any_server.client() as client:
        backend = Streamer(client)
        await live(client, "pod-b")
        await backend.publish("1")
        await backend.watch("1", "pod-a")
        [remove] = await held_back(any_server.url, ALL)
        args = (*remove.args[:-1], 60_000)  # as in production; the tests take everybody for idle
        await client.xreadgroup(GROUP, "pod-a", {PREFIX + "1": ">"}, noack=True)
        assert await arrive(client, [remove._replace(args=args)]) == [b"fresh"]
        assert await backend.consumers("1") == ["pod-a"]


# -- dry run, fence, interruptions -----------------------------------------------------------------


async def digest(client: Any) -> bytes:
    found: bytes = await client.execute_command("DEBUG", "DIGEST")
    return found


async def everything(backend: Streamer) -> None:
    """Something for every step."""
    await live(backend.client, "pod-a")
    for number in range(30):
        await backend.ended(f"finished-{number}")
        await backend.watch(f"finished-{number}", "pod-dead")
    await backend.aged("idle", 2 * DAY_S)
    await backend.watch("idle", "pod-dead")
    await backend.publish_many("long", 50)
    await backend.finish("long")
    await backend.client.hset("tidegate:slots:ann", "c1", "pod-dead.1.ab 1")


FULL = {"trim": {"finished_entries": 10}}


async def test_a_dry_run_tells_what_would_be_done_and_does_nothing(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    await everything(backend)
    before = await digest(backend.client)
    would = await sweep.round(spec(dry_run=True, **FULL))
    assert await digest(backend.client) == before
    done = await sweep.round(spec(**FULL))
    assert would.dry_run
    assert (
        counts(would.tally.expiring) == counts(done.tally.expiring) == {"finished": 31, "idle": 1}
    )
    planned = {"consumers": 31, "groups": 30, "trimmed": 1, "trimmed_entries": 41}
    planned |= {"slot_users": 1, "slots": 1}
    assert counts(would.tally.done) == planned
    assert counts(done.tally.done) == planned


async def test_the_fence_is_asked_before_anything_is_changed(any_server: Server) -> None:
    """It says no at the n-th time: what was sent before it stays, nothing comes after."""
    answers: list[bool] = []
    async with (
        any_server.client() as client,
        sweeping(any_server.url, may_continue=lambda: answers.pop(0)) as sweep,
    ):
        backend = Streamer(client)
        await everything(backend)
        before = await digest(client)
        answers[:] = [False]
        with pytest.raises(Fenced):
            await sweep.round(spec(**FULL))
        assert await digest(client) == before
        answers[:] = [True, False]
        with pytest.raises(Fenced):
            await sweep.round(spec(**FULL))
        assert await digest(client) != before
        answers[:] = [True] * 100
        report = await sweep.round(spec(**FULL))
        assert len(answers) < 100
        for number in range(30):
            assert await backend.ttl_s(f"finished-{number}") is not None
        # All three attempts were one round.
        assert counts(report.tally.done)["consumers"] == 31
        assert counts(report.tally.streams)["finished"] == 31


async def test_a_tick_can_be_cancelled_anywhere_and_the_round_goes_on(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    for number in range(400):
        await backend.ended(str(number))
    cancelled = 0
    slow = spec(pace={"scan_count": 10, "commands_per_s": 20_000})
    report: SweepReport | None = None
    while report is None:
        task = asyncio.create_task(sweep.tick(slow))
        for _ in range(cancelled % 23):
            await asyncio.sleep(0)
        if cancelled < 200 and task.cancel():
            cancelled += 1
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            report = await task
    assert cancelled == 200
    assert report.tally.streams.total() == 400
    for number in range(400):
        assert near(await backend.ttl_s(str(number)), HOUR_S)


async def test_a_round_goes_on_after_redis_was_away_and_over_a_restart(
    redis_server: Server,
) -> None:
    durable = Server(redis_server.binary, Options(durable=True))
    async with durable, sweeping(durable.url) as sweep:
        async with durable.client() as client:
            backend = Streamer(client)
            for number in range(300):
                await backend.ended(str(number))
        small = spec(pace={"scan_count": 20})
        for _ in range(5):
            assert await sweep.tick(small) is None
        part = sweep.progress()
        assert 0 < part.tally.streams.total() < 300
        await durable.kill()
        with pytest.raises(RedisUnavailable):
            await sweep.tick(small)
        with pytest.raises(RedisUnavailable):
            await sweep.tick(small)
        await durable.restart()
        report = await sweep.round(small)
        assert report.interruptions == 2
        async with durable.client() as client:
            for number in range(300):
                assert near(await Streamer(client).ttl_s(str(number)), HOUR_S)


async def test_a_paused_server_is_given_up_and_found_again(redis_server: Server) -> None:
    async with (
        redis_server.client() as client,
        sweeping(redis_server.url, reply_timeout_s=0.2, connect_timeout_s=0.2) as sweep,
    ):
        await Streamer(client).ended("1")
        redis_server.pause()
        try:
            with pytest.raises(RedisUnavailable):
                await sweep.round(ALL, patience_s=0.5)
        finally:
            redis_server.resume()
        report = await sweep.round(ALL)
        assert report.interruptions >= 1
        assert report.streams == 1


async def test_scripts_that_the_server_forgot_are_sent_again(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    for number in range(3):
        await backend.ended(str(number))
        await sweep.round(ALL)
        await backend.client.script_flush()
    for number in range(3):
        assert near(await backend.ttl_s(str(number)), HOUR_S)


# -- cluster, Sentinel -----------------------------------------------------------------------------


async def test_every_primary_of_a_cluster_has_its_turn(cluster: Cluster) -> None:
    async with cluster.client() as client, sweeping(cluster.url) as sweep:
        names = [str(number) for number in range(120)]
        for name in names:
            await client.xadd(PREFIX + name, DONE)
        await client.hset("tidegate:slots:ann", "c1", "pod-dead.1.ab 1")
        now = (await client.time(target_nodes=client.get_random_node()))[0] * 1000
        clock: dict[Any, Any] = {"since": now - 600_000, "last": now, "order": now}
        await client.hset("{tidegate}:pods:clock", mapping=clock)
        nodes = set()
        report = None
        while report is None:
            report = await sweep.tick(spec(pace={"scan_count": 10}))
            nodes.add(sweep.progress().node)
        assert len(nodes - {None}) == 3
        assert counts(report.tally.streams) == {"finished": 120}
        assert report.tally.done["slots"] == 1
        assert len(report.memory) == 3
        for name in names:
            assert 0 < await client.ttl(PREFIX + name) <= HOUR_S


async def test_a_slot_on_its_way_is_left_for_the_next_round(cluster: Cluster) -> None:
    async with cluster.client() as client, sweeping(cluster.url) as sweep:
        for number in range(60):
            await client.xadd(f"{PREFIX}{number}", DONE)
        slot = cluster.slot(PREFIX + "7")
        target = await cluster.other_than(await cluster.owner(slot))
        source = await cluster.begin_move(slot, target)
        report = await sweep.round(ALL)
        assert report.interruptions == 0
        await cluster.move_keys(slot, source, target)
        await cluster.finish_move(slot, source, target)
        await sweep.round(ALL)
        for number in range(60):
            assert await client.ttl(f"{PREFIX}{number}") > 0


async def test_a_failover_in_the_middle_costs_a_repeated_primary(
    cluster_with_replicas: Cluster,
) -> None:
    cluster = cluster_with_replicas
    async with cluster.client() as client, sweeping(cluster.url) as sweep:
        for number in range(300):
            await client.xadd(f"{PREFIX}{number}", DONE)
        for server in cluster.servers[:3]:
            async with server.client() as one:
                await one.execute_command("WAIT", 1, 5000)
        small = spec(pace={"scan_count": 10})
        while sweep.progress().tally.streams.total() < 30:
            assert await sweep.tick(small) is None
        at = sweep.progress().node
        primary = next(server for server in cluster.servers if server.address == at)
        [replica] = await cluster.replicas_of(primary)
        await primary.kill()
        await cluster.take_over(replica)
        report = await sweep.round(small)
        assert report.interruptions >= 1
        assert replica.address in {one.node for one in report.memory}
        for number in range(300):
            assert await client.ttl(f"{PREFIX}{number}") > 0


async def test_a_failover_by_sentinel_in_the_middle(sentinel: Sentinels) -> None:
    async with sweeping(sentinel.url) as sweep:
        async with (await sentinel.primary()).client() as client:
            backend = Streamer(client)
            for number in range(100):
                await backend.ended(str(number))
            await client.execute_command("WAIT", 1, 5000)
        small = spec(pace={"scan_count": 10})
        for _ in range(4):
            assert await sweep.tick(small) is None
        async with sentinel.failed_over():
            await (await sentinel.primary()).kill()
        report = await sweep.round(small)
        assert report.interruptions >= 1
        async with (await sentinel.primary()).client() as client:
            for number in range(100):
                assert near(await Streamer(client).ttl_s(str(number)), HOUR_S)


# -- pace, memory ----------------------------------------------------------------------------------


async def test_the_pace_holds(backend: Streamer, sweep: StreamSweeper) -> None:
    """By what the server has counted. Nobody else sends anything."""
    for number in range(500):
        await backend.publish(str(number))
    await backend.client.config_resetstat()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await sweep.round(spec(pace={"commands_per_s": 2_000, "scan_count": 100}))
    seconds = loop.time() - began
    stats = await backend.client.info("commandstats")
    sent = sum(int(row["calls"]) for row in stats.values())
    assert 2_000 < sent < 2_400, "four for each stream, and a few"
    assert sent <= 2_000 * (seconds + 0.2)
    assert seconds > 1.0


async def test_changes_have_a_pace_of_their_own(backend: Streamer, sweep: StreamSweeper) -> None:
    for number in range(150):
        await backend.ended(str(number))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await sweep.round(spec(pace={"changes_per_s": 100}))
    assert loop.time() - began > 1.2


async def fill(backend: Streamer) -> None:
    for number in range(20):
        await backend.publish_many(f"big-{number}", 40, pad=20_000)
        await backend.finish(f"big-{number}")
    await backend.publish_many("failed", 60, pad=20_000)
    await backend.finish("failed", "failed")
    await backend.publish_many("running", 90, pad=20_000)
    for number in range(20):
        await backend.ended(f"small-{number}")


async def test_a_full_redis_loses_the_biggest_finished_streams_first(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    client = backend.client
    await fill(backend)
    memory = {"shortened_s": 120}
    used = int((await client.info("memory"))["used_memory"])
    # Above the mark by about three of the big streams.
    await client.config_set("maxmemory", int((used - 2_000_000) / 0.9))
    report = await sweep.round(spec(memory=memory))
    assert report.level is Level.HIGH
    shortened = {
        name for name in await all_names(client) if (await backend.ttl_s(name) or 9e9) < 130
    }
    assert 2 <= len(shortened) <= 5
    assert all(name.startswith("big-") for name in shortened)
    assert await backend.ttl_s("running") is None
    assert report.tally.done["shortened"] == len(shortened)
    # They go on counting as freed: nothing more is taken for the same excess.
    again = await sweep.round(spec(memory=memory))
    assert again.tally.done["shortened"] <= 1
    # Now nothing is enough: finished ones, then failed ones, and still no running one.
    await client.config_set("maxmemory", 1_000_000)
    await sweep.round(spec(memory=memory))
    assert near(await backend.ttl_s("failed"), 120)
    assert near(await backend.ttl_s("small-1"), 120)
    assert await backend.ttl_s("running") is None


async def all_names(client: Any) -> list[str]:
    return [key.decode().removeprefix(PREFIX) for key in await client.keys(PREFIX + "*")]


async def test_streams_are_cleaned_up_when_nothing_can_be_written_any_more(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    client = backend.client
    await everything(backend)
    await client.config_set("maxmemory", 100_000)
    with pytest.raises(Exception, match=r"OOM|memory"):
        await backend.publish("one more")
    report = await sweep.round(spec(**FULL))
    assert report.level is Level.HIGH
    assert not report.tally.left["refused"]
    for number in range(30):
        assert near(await backend.ttl_s(f"finished-{number}"), 300)


async def test_a_limit_of_ones_own_warns_before_it_acts(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    client = backend.client
    await backend.ended("1")
    await client.set("something of others", b"x" * 20_000_000)
    used = int((await client.info("memory"))["used_memory"])
    own = {"limit_bytes": int(used / 0.8)}
    report = await sweep.round(spec(memory=own))
    assert report.level is Level.WARN
    assert near(await backend.ttl_s("1"), HOUR_S)
    assert not report.tally.done["shortened"]
    assert (await sweep.round(ALL)).level is Level.UNKNOWN
    await client.config_set("maxmemory-policy", "allkeys-lru")
    [one] = (await sweep.round(ALL)).memory
    assert one.reading.evicts_running


# -- hostile ---------------------------------------------------------------------------------------


async def test_streams_of_any_kind_are_seen_through(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    client = backend.client
    await client.xadd(PREFIX + "bin\xff\x00*[x]\r\n", DONE)
    await client.xadd(PREFIX.encode() + b"\xff\xfe", DONE)
    await client.xadd(PREFIX + "k" * 5000, DONE)
    await client.xadd(PREFIX + "binary", {b"\xff\x00": b"\xfe", b"status": b"\xff"})
    await client.xadd(PREFIX + "odd", {"message": '{"type":', "status": "completed"})
    await client.xadd(PREFIX + "deep", {"message": "[" * 50_000})
    await client.xadd(PREFIX + "twice", {"status": "running"})
    await client.execute_command(
        "XADD", PREFIX + "fields", "*", "status", "x", "status", "completed"
    )
    await client.xadd(PREFIX + "future", DONE, id="18446744073709551615-18446744073709551615")
    await client.xadd(PREFIX + "zero", DONE, id="0-1")
    await client.xgroup_create(PREFIX + "empty", "any", "$", mkstream=True)
    emptied = await client.xadd(PREFIX + "emptied", DONE)
    await client.xdel(PREFIX + "emptied", emptied)
    await client.xadd(PREFIX + "undone", {"type": "progress"})
    later = await client.xadd(PREFIX + "undone", DONE)
    await client.xdel(PREFIX + "undone", later)
    report = await sweep.round(ALL)
    assert not report.tally.left["refused"]
    assert counts(report.tally.streams) == {"finished": 6, "running": 6, "foreign": 1}
    assert report.tally.undatable == 3
    assert near(await backend.ttl_s("future"), HOUR_S)
    assert near(await backend.ttl_s("zero"), HOUR_S)
    for name in ("binary", "odd", "deep", "twice", "empty", "emptied", "undone"):
        assert await backend.ttl_s(name) is None, name
    again = await sweep.round(ALL)
    assert not counts(again.tally.expiring)


async def test_names_of_any_bytes_hold_nothing_up(backend: Streamer, sweep: StreamSweeper) -> None:
    """A dead consumer with such a name ended every round at its page, for ever."""
    client = backend.client
    await live(client, "pod-a")
    await backend.aged("1", 2 * DAY_S)
    await backend.watch("1", "pod-dead")
    await client.xgroup_createconsumer(PREFIX + "1", GROUP, b"\xff\xfepod\r\n")
    await client.hset("tidegate:slots:ann", "c1", b"\xff.1.ab 1")
    await client.zadd(NAMES.pods, {b"\xfe\xff": 1e15})
    report = await sweep.round(ALL)
    assert await backend.consumers("1") == []
    assert near(await backend.ttl_s("1"), GRACE_S)
    assert counts(report.tally.done) == {"consumers": 2, "slots": 1, "slot_users": 1}


async def test_a_group_ahead_of_its_stream_counts_for_nothing(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    """Its lag is negative, and the API server refuses a status with a negative count."""
    await live(backend.client, "pod-a")
    for name in ("ahead", "behind"):
        await backend.publish_many(name, 3)
        await backend.watch(name, "pod-a")
    await backend.client.xgroup_setid(PREFIX + "ahead", GROUP, "$", entries_read=10**12)
    assert (await sweep.round(ALL)).tally.undispatched == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"message": b'{"type":"operation_completed","data":{"x":NaN,"f":"\\udcff","t":"caf\xc3"}}'},
        {"message": b'{"type":null,"data":{"status":"completed"}}'},
        {"message": b'{"data":{"x":"%b","status":"completed"}}' % (b"x" * 300_000)},
        {"message": b'{"data":{"x":"%b"x,"status":"completed"}}' % (b"x" * 300_000)},
        {"blob": b"x" * 400_000, "status": b"completed"},
    ],
    ids=["odd", "null type", "large", "large and broken", "large fields"],
)
async def test_a_last_entry_that_is_hard_to_read_finishes_its_stream(
    backend: Streamer, sweep: StreamSweeper, fields: dict[str, bytes]
) -> None:
    """It was taken for running, and its stream was never given a TTL as one that has ended."""
    await backend.add("42", dict(fields))
    report = await sweep.round(ALL)
    assert counts(report.tally.streams) == {"finished": 1}
    assert near(await backend.ttl_s("42"), HOUR_S)


async def test_what_is_large_is_not_carried(backend: Streamer, sweep: StreamSweeper) -> None:
    client = backend.client
    message = '{"type":"operation_completed","data":{"status":"completed","x":"%s"}}'
    await backend.add("large", {"message": message % ("x" * (MAX_ENTRY_BYTES // 2))})
    await backend.add("too large", {"message": message % ("x" * MAX_ENTRY_BYTES)})
    await backend.publish_many("long", 400, pad=1000)
    await backend.finish("long")
    report = await sweep.round(ALL)
    assert near(await backend.ttl_s("large"), HOUR_S)
    assert near(await backend.ttl_s("long"), HOUR_S)
    assert near(await backend.ttl_s("too large"), HOUR_S), "its end is read all the same"
    assert counts(report.tally.streams) == {"finished": 3}
    assert "cmdstat_xrevrange" not in await client.info("commandstats")


async def test_more_consumers_than_a_look_carries(backend: Streamer, sweep: StreamSweeper) -> None:
    await live(backend.client, "pod-a")
    await backend.aged("1", 2 * DAY_S)
    await backend.watch("1", *(f"pod-{number:04d}" for number in range(MAX_CONSUMERS + 10)))
    report = await sweep.round(ALL)
    assert await backend.ttl_s("1") is None, "one of the others may live"
    assert report.tally.done["consumers"] == MAX_CONSUMERS
    report = await sweep.round(ALL)
    assert report.tally.done["consumers"] == 10
    assert near(await backend.ttl_s("1"), GRACE_S)


async def test_another_spec_holds_from_the_next_tick_on(
    backend: Streamer, sweep: StreamSweeper
) -> None:
    for number in range(100):
        await backend.ended(str(number))
    small = {"scan_count": 10}
    assert await sweep.tick(spec(pace=small)) is None
    assert await sweep.tick(spec(pace=small)) is None
    report = await sweep.round(spec(pace=small, ttl={"finished_s": 0}))
    ttls = [await backend.ttl_s(str(number)) for number in range(100)]
    assert 0 < sum(ttl is not None for ttl in ttls) < 100
    assert report.streams >= 100
    assert await sweep.tick(spec(pace=small)) is None
    sweep.forget()
    assert (await sweep.round(ALL)).streams == 100, "from the beginning, and each one once"
    other = await sweep.round(Streams.model_validate({"prefix": "elsewhere:"}))
    assert other.streams == 0


async def test_a_login_with_just_these_rights_is_enough(
    any_server: Server, backend: Streamer
) -> None:
    client = backend.client
    await everything(backend)
    rights = documented_rights("sweeper", "operator.md")
    await client.execute_command("ACL", "SETUSER", "sweeper", "on", ">s3cret", *rights)
    async with sweeping(any_server.url, username="sweeper", password="s3cret") as sweep:
        report = await sweep.round(spec(**FULL))
        assert not counts(report.tally.left)
        assert counts(report.tally.expiring) == {"finished": 31, "idle": 1}
        assert report.tally.done["slots"] == 1
        await client.execute_command("ACL", "SETUSER", "sweeper", "-xinfo")
        with pytest.raises(RedisUnavailable, match=r"permi.*docs/operator\.md"):
            await sweep.tick(ALL)
