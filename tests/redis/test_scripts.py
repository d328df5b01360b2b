"""Each script against its contract, on both ends of the supported range."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no stubs of its own
import pytest
from redis.asyncio.client import PubSub
from redis.exceptions import ResponseError

from tests.harness.backend import GROUP, PREFIX, Backend
from tests.harness.waiting import PATIENCE_S
from tests.redis.open_link import OpenLink
from tests.servers.standalone import Server
from tidegate.core.records import Page, Relay
from tidegate.model.ids import parse_stream_id
from tidegate.redis import lua
from tidegate.redis.in_flight import PAGE_BYTES, RELAY_BYTES
from tidegate.redis.replies import read_info, read_page, read_relay

KEY = PREFIX + "42"
POD = "pod-1"
LIMITS = (500, 1_048_576, 262_144)


async def run(backend: Backend, script: lua.Script, *args: Any) -> Any:
    client: Any = backend.client
    return await client.eval(script.text, 1, KEY, *args)


async def dispatch(backend: Backend, *limits: int) -> tuple[int, bytes, int]:
    count, newest, more = await run(backend, lua.DISPATCH, GROUP, POD, *(limits or LIMITS))
    return count, newest, more


async def attach(
    backend: Backend, after: str = "", newest: int = 101, max_bytes: int = PAGE_BYTES
) -> Page:
    reply = await run(backend, lua.ATTACH, GROUP, POD, *LIMITS, after, newest, "", max_bytes)
    return read_page(reply, None)


class Ear:
    """Hears the relay of one stream."""

    def __init__(self, backend: Backend) -> None:
        self._pubsub: PubSub = backend.client.pubsub()

    async def __aenter__(self) -> Ear:
        # redis-py's standalone client has no ssubscribe that works everywhere; the command does.
        await self._pubsub.execute_command("SSUBSCRIBE", KEY)
        await self._pubsub.parse_response(timeout=PATIENCE_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()

    async def next(self) -> Relay:
        kind, channel, payload = await self._pubsub.parse_response(timeout=PATIENCE_S)
        assert (kind, channel) == (b"smessage", KEY.encode())
        relay = read_relay(payload)
        assert relay is not None
        return relay


def ids(relay: Relay) -> list[str]:
    return [entry.id.decode() for entry in relay.entries]


# --- dispatch


async def test_what_was_written_is_relayed_once_and_in_order(either: Backend) -> None:
    await attach(either)
    async with Ear(either) as ear:
        assert await dispatch(either) == (0, b"", 0), "no stream, and none is made"
        assert not await either.exists("42")
        written = await either.publish_many("42", 5)
        assert await dispatch(either) == (5, written[-1].encode(), 0)
        first = await ear.next()
        assert (first.origin, first.previous, first.created) == (POD.encode(), b"", True)
        assert ids(first) == written
        assert first.added == 5
        more = await either.publish_many("42", 2)
        await dispatch(either)
        second = await ear.next()
        assert (second.previous, second.created) == (written[-1].encode(), False)
        assert ids(second) == more
        assert await dispatch(either) == (0, more[-1].encode(), 0), "nothing new, so no message"
        (group,) = await either.groups("42")
        assert (group["pending"], group["lag"]) == (0, 0), "nothing is left pending"


async def test_a_call_is_bounded_in_entries_and_says_how_many_are_left(either: Backend) -> None:
    written = await either.publish_many("42", 100)
    async with Ear(either) as ear:
        seen: list[str] = []
        for expected, more in ((40, 60), (40, 20), (20, 0)):
            count, newest, left = await dispatch(either, 40, 1_048_576, 262_144)
            assert (count, left) == (expected, more)
            relay = await ear.next()
            assert relay.previous == (seen[-1].encode() if seen else b"")
            seen += ids(relay)
            assert newest.decode() == seen[-1]
        assert seen == written


async def test_a_call_is_bounded_in_bytes(either: Backend) -> None:
    await either.publish_many("42", 200, pad=1000)
    total = 0
    more = 1
    while more:
        count, _, more = await dispatch(either, 500, 10_000, 5_000)
        assert count <= 32 + 10, "a chunk is read before its size is known"
        total += count
    assert total == 200


async def test_entries_are_relayed_up_to_a_size_and_above_it_their_last_id(either: Backend) -> None:
    await attach(either)
    async with Ear(either) as ear:
        previous = b""
        for pad, is_carried in ((RELAY_BYTES - 500, True), (RELAY_BYTES, False), (10, True)):
            *_, last = await either.publish_many("42", 2 if pad == 10 else 1, pad=pad)
            await dispatch(either)
            relay = await ear.next()
            assert relay.previous == previous
            assert bool(relay.entries) is is_carried
            assert relay.unread == (b"" if is_carried else last.encode())
            previous = last.encode()
        await either.publish_many("42", 400)
        await dispatch(either)
        assert (await ear.next()).unread, "many small ones are large as well"


async def test_an_entry_too_large_to_carry_is_cut(either: Backend) -> None:
    await either.publish_many("42", 1)
    large = await either.add("42", {"message": "x" * 5000})
    small = await either.publish("42")
    async with Ear(either) as ear:
        await dispatch(either, 500, 1_048_576, 4000)
        relay = await ear.next()
    assert ids(relay)[1:] == [large, small]
    assert relay.entries[1].fields == [b"message", b"x" * 4096]
    assert relay.entries[1].size_bytes == 5000 + len("message")
    assert relay.entries[2].fields is not None


async def test_a_group_that_was_destroyed_is_made_again_and_loses_nothing(either: Backend) -> None:
    written = await either.publish_many("42", 3)
    await dispatch(either)
    await either.client.xgroup_destroy(KEY, GROUP)
    written += await either.publish_many("42", 2)
    async with Ear(either) as ear:
        assert (await dispatch(either))[0] == 5
        relay = await ear.next()
    assert relay.created
    assert ids(relay) == written


async def test_a_trimmed_stream_proves_with_its_counter(either: Backend) -> None:
    await either.publish_many("42", 5)
    await dispatch(either)
    await either.publish_many("42", 3)
    await either.trim("42", 3)
    async with Ear(either) as ear:
        await dispatch(either)
        relay = await ear.next()
    assert (relay.previous, relay.added) == (b"", 8)


async def test_any_field_bytes_survive_the_relay(either: Backend) -> None:
    fields = {b"\x00\xff": b"\xc3\x28", b"message": b"", "ä": "\u2028"}
    await either.add("42", fields)
    async with Ear(either) as ear:
        await dispatch(either)
        (entry,) = (await ear.next()).entries
    assert entry.fields == [
        b"\x00\xff",
        b"\xc3\x28",
        b"message",
        b"",
        "ä".encode(),
        b"\xe2\x80\xa8",
    ]


async def test_dispatch_arms_the_doorbell_also_before_the_stream_exists(
    any_server: Server, either: Backend
) -> None:
    async with OpenLink(any_server) as link:
        await link.call("CLIENT", "TRACKING", "ON", "NOLOOP")
        for _ in range(3):
            await link.call("EVAL", lua.DISPATCH.text, 1, KEY, GROUP, POD, *LIMITS)
            link.seen.clear()
            await either.publish_many("42", 3)
            await link.barrier()
            assert link.seen == [[b"invalidate", [KEY.encode()]]], "several writes ring once"


SCRIPTS_ABOUT_A_STREAM = {
    lua.DISPATCH: (GROUP, POD, *LIMITS),
    lua.ATTACH: (GROUP, POD, *LIMITS, "", 10, "", PAGE_BYTES),
    lua.READ: ("0-0", *LIMITS),
    lua.READ_WHOLE: ("0-0", *LIMITS),
    lua.NEWEST: LIMITS,
    lua.LOCATE: (5,),
}


@pytest.mark.parametrize("script", SCRIPTS_ABOUT_A_STREAM)
async def test_a_key_that_is_no_stream_is_told_as_such(either: Backend, script: lua.Script) -> None:
    await either.client.set(KEY, "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await run(either, script, *SCRIPTS_ABOUT_A_STREAM[script])


# --- attach


async def test_attach_makes_the_group_at_the_end_and_nothing_where_nothing_is(
    either: Backend,
) -> None:
    page = await attach(either)
    assert not page.info.exists
    assert not await either.exists("42")
    written = await either.publish_many("42", 5)
    async with Ear(either) as ear:
        page = await attach(either)
        relay = await ear.next()
    assert (relay.created, relay.entries) == (True, ())
    assert [entry.id.decode() for entry in page.entries] == written
    assert (page.info.length, page.info.added, page.more) == (5, 5, False)
    (group,) = await either.groups("42")
    assert group["last-delivered-id"].decode() == written[-1]
    assert await either.consumers("42") == [POD]


async def test_attach_dispatches_what_waits_before_it_answers(either: Backend) -> None:
    await either.publish_many("42", 1)
    await attach(either)
    written = await either.publish_many("42", 2)
    async with Ear(either) as ear:
        page = await attach(either)
        assert ids(await ear.next()) == written
    assert page.entries[-1].id.decode() == written[-1]


async def test_attach_gives_the_newest_or_what_comes_after(either: Backend) -> None:
    written = await either.publish_many("42", 150)
    page = await attach(either, newest=101)
    assert [entry.id.decode() for entry in page.entries] == written[49:]
    page = await attach(either, after=written[9])
    assert [entry.id.decode() for entry in page.entries] == written[10:]


# --- read, locate


async def test_read_is_bounded_and_goes_on(either: Backend) -> None:
    written = await either.publish_many("42", 100)
    seen: list[str] = []
    for expected in (30, 30, 30, 10):
        after = seen[-1] if seen else "0-0"
        page = read_page(await run(either, lua.READ, after, 30, 1_048_576, 262_144), None)
        assert (len(page.entries), page.more) == (expected, expected == 30)
        assert (page.info.first, page.info.length) == (parse_stream_id(written[0]), 100)
        seen += [entry.id.decode() for entry in page.entries]
    assert seen == written


async def test_read_is_bounded_in_bytes_but_brings_two(either: Backend) -> None:
    await either.publish_many("42", 20, pad=10_000)
    for max_bytes, expected in ((1_024, 2), (25_000, 3), (300_000, 20)):
        page = read_page(await run(either, lua.READ, "0-0", 30, max_bytes, 262_144), None)
        assert (len(page.entries), page.more) == (expected, expected < 20)


async def test_the_newest_are_bounded_in_bytes_but_one(either: Backend) -> None:
    written = await either.publish_many("42", 20, pad=10_000)
    for count, max_bytes, expected in (
        (20, 1_024, 1),
        (20, 25_000, 2),
        (20, 300_000, 20),
        (7, 300_000, 7),
    ):
        page = read_page(await run(either, lua.NEWEST, count, max_bytes, 262_144), None)
        assert [entry.id.decode() for entry in page.entries] == written[-expected:]


@pytest.mark.parametrize("after", [True, False])
async def test_the_link_gets_all_of_a_page_or_nothing(either: Backend, after: bool) -> None:
    """On the wire, so that many short fields count for what they are there."""
    await either.add("42", {str(n): "" for n in range(500)}, entry_id="1-0")
    await either.add("42", {str(n): "" for n in range(500)}, entry_id="1-1")
    for max_bytes, expected in ((8_000, 0), (64_000, 2)):
        for script in (lua.READ_WHOLE, lua.ATTACH):
            if script is lua.ATTACH:
                page = await attach(either, "0-0" if after else "", max_bytes=max_bytes)
            else:
                page = read_page(await run(either, script, "0-0", 500, max_bytes, 262_144), None)
            assert (len(page.entries), page.more) == (expected, not expected)


async def test_read_of_nothing_makes_nothing(either: Backend) -> None:
    page = read_page(await run(either, lua.READ, "0-0", 30, 1_048_576, 262_144), None)
    assert (page.info.exists, list(page.entries), page.more) == (False, [], False)
    assert not await either.exists("42")


async def test_locate_finds_the_place_before_the_newest(either: Backend) -> None:
    in_one = ("+", 1_000, 1_048_576)
    assert await run(either, lua.LOCATE, 5, *in_one) == [None, b"", 0, b""]
    written = await either.publish_many("42", 100)
    for newest, expected in ((0, 99), (1, 98), (32, 67), (33, 66), (99, 0)):
        info, before, _, below = await run(either, lua.LOCATE, newest, *in_one)
        assert (before.decode(), below) == (written[expected], b""), newest
    for newest in (100, 101, 5000, -1):
        info, before, _, below = await run(either, lua.LOCATE, newest, *in_one)
        assert (before, below) == (b"", b"")
        assert read_info(info).length == 100


async def test_locating_a_place_far_back_held_redis_for_as_long_as_it_took(
    either: Backend,
) -> None:
    written = await either.publish_many("42", 200)
    for step in ((40, 1_048_576), (1_000, 1)):  # bounded in entries, and in bytes
        left, below, steps = 150, b"+", 0
        while True:
            steps += 1
            _, before, left, below = await run(either, lua.LOCATE, left, below, *step)
            if not below:
                break
            assert before == b""
        assert before.decode() == written[49]
        assert steps >= 3


# --- publish


async def publish(backend: Backend, *texts: str, cap: int = 0, ttl_s: int = 0) -> list[bytes]:
    head = (GROUP, POD, *LIMITS, cap, ttl_s, "*", 0, "", "", 0, 0, "")
    outcome, *written = await run(backend, lua.PUBLISH, *head, *texts)
    assert outcome == b"added"
    return list(written)


async def test_publish_appends_caps_expires_and_dispatches(either: Backend) -> None:
    await either.publish("42")
    await attach(either)
    async with Ear(either) as ear:
        written = await publish(either, '{"data":1}', '{"data":2}', ttl_s=60)
        relay = await ear.next()
    assert [entry.id for entry in relay.entries] == written
    assert 0 < await either.client.ttl(KEY) <= 60
    for _ in range(10):
        await publish(either, *['{"data":1}'] * 100, cap=100)
    assert await either.client.xlen(KEY) < 400, "about the cap: Redis trims whole nodes"


async def test_publish_relays_what_the_group_has_not_read_whoever_wrote_it(either: Backend) -> None:
    """What was read up to the end is relayed without being read again; anything else is read."""
    plain = await either.publish("42")
    await attach(either)
    newest = plain
    async with Ear(either) as ear:
        for written_before in (0, 0, 2, 0, 1, 0):
            expected = await either.publish_many("42", written_before)
            expected += [id_.decode() for id_ in await publish(either, '{"data":1}', '{"data":2}')]
            relay = await ear.next()
            assert (relay.previous.decode(), relay.created) == (newest, False)
            assert ids(relay) == expected
            newest = expected[-1]
            (group,) = await either.groups("42")
            assert (group["pending"], group["lag"]) == (0, 0)
            assert group["last-delivered-id"].decode() == newest
            assert await dispatch(either) == (0, newest.encode(), 0), "nothing is relayed twice"


@pytest.mark.parametrize("what", ["deleted", "trimmed", "set by hand", "large", "read anew"])
async def test_publish_relays_its_entries_once_whatever_was_done(
    either: Backend, what: str
) -> None:
    await either.publish("42")
    await attach(either)
    client: Any = either.client
    text = '{"data":1}'
    async with Ear(either) as ear:
        (before,) = await publish(either, text)
        assert (await ear.next()).entries[-1].id == before
        match what:
            case "deleted":
                await client.xdel(KEY, before)
            case "trimmed":
                await client.xtrim(KEY, maxlen=0, approximate=False)
            case "set by hand":
                await client.xgroup_setid(KEY, GROUP, before, entries_read=77)
            case "large":
                text = '{"data":"%s"}' % ("x" * RELAY_BYTES)
            case _:
                await client.xgroup_setid(KEY, GROUP, "0", entries_read=0)
        (written,) = await publish(either, text)
        relay = await ear.next()
        assert (relay.entries[-1].id if relay.entries else relay.unread) == written
        assert (await dispatch(either))[0] == 0
        (again,) = await publish(either, '{"data":3}')
        after = await ear.next()
        assert [entry.id for entry in after.entries] == [again]
        assert after.previous == written


async def test_publish_believes_no_count_of_what_the_group_has_not_read(either: Backend) -> None:
    """Redis 8 leaves out what was trimmed away, which viewers then missed without a gap. Here the
    count is wrong because somebody has set another one.
    """
    await either.publish_many("42", 5)
    await attach(either)
    await publish(either, '{"data":1}')
    await either.trim("42", 1)
    async with Ear(either) as ear:
        unread = await either.publish_many("42", 2)
        await either.client.execute_command("XSETID", KEY, unread[-1], "ENTRIESADDED", 6)
        (written,) = await publish(either, '{"data":2}')
        assert ids(await ear.next()) == [*unread, written.decode()]
        unread = await either.publish_many("42", 2)
        await either.trim("42", 0)
        (written,) = await publish(either, '{"data":3}')
        relay = await ear.next()
        assert (relay.previous, ids(relay)) == (b"", [written.decode()]), "not that none is missing"


async def test_publish_did_not_say_that_its_entry_was_in_when_it_could_not_be_relayed(
    either: Backend,
) -> None:
    await either.publish("42")
    await attach(either)
    client: Any = either.client
    rights = ("+xadd", "+eval", "+client")
    await client.execute_command(
        "ACL", "SETUSER", "weak", "on", "nopass", "allkeys", "allchannels", "-@all", *rights
    )
    try:
        await client.execute_command("AUTH", "weak", "")
        (written,) = await publish(either, '{"data":1}')
    finally:
        await client.execute_command("AUTH", "default", "")
        await client.execute_command("ACL", "DELUSER", "weak")
    entries = await client.xrange(KEY)
    assert [id_ for id_, _ in entries][1:] == [written]


async def test_publish_leaves_no_group_where_nobody_watches(either: Backend) -> None:
    await publish(either, '{"data":1}')
    assert await either.groups("42") == []


# --- a relay message is checked before it is believed

GOOD = [b"pod", b"1-0", 0, [[b"2-0", [b"a", b"b"]]], None]


def test_a_good_message_is_read() -> None:
    relay = read_relay(msgpack.packb(GOOD))
    assert relay is not None
    assert relay.entries[0].fields == [b"a", b"b"]


BAD_ENTRIES: list[object] = [None, 5, [], [b"2-0"], b"ab", {}]
BAD_IDS: list[object] = [None, 5, b"", b"2", b"x-1", [], b"1-2-3"]
BAD_IDS += [b'2-0"', b" 2-0", b"2_0-1", b"+2-0", b"2-0\n"]
BAD_FIELDS: list[object] = [None, b"text", [1], [b"a", None], {}]
BAD_ENTRIES += [[name, []] for name in BAD_IDS]
BAD_ENTRIES += [[b"2-0", fields] for fields in BAD_FIELDS]
BAD_MESSAGES: list[object] = [None, 7, b"x", [], {}, [1, 2, 3, 4, 5], GOOD[:4], [*GOOD, 1]]
BAD_MESSAGES += [[b"pod", b"1-0", 0, entries, None] for entries in (None, 7)]
BAD_MESSAGES += [[5, b"1-0", 0, [], None], [b"pod", 5, 0, [], None], [b"pod", b"x", 0, [], None]]
BAD_MESSAGES += [[b"pod", b"1-0", 0, [entry], None] for entry in BAD_ENTRIES]
BAD_MESSAGES += [[b"pod", b"1-0", 0, b"2-x", None]]


@pytest.mark.parametrize("message", BAD_MESSAGES, ids=repr)
def test_anything_else_is_refused(message: object) -> None:
    assert read_relay(msgpack.packb(message)) is None


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x95", b"\xdd\xff\xff\xff\xff", b"{}" * 100])
def test_what_is_no_message_pack_is_refused(payload: bytes) -> None:
    assert read_relay(payload) is None
