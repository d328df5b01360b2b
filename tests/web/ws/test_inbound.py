"""What viewers may say, and how much of it: pings, and bounds that end the connection.

Part of the sender contract: every test runs over the direct and over the plain ASGI sender.
"""

import asyncio

import pytest
from websockets.frames import Frame, Opcode

from tests.harness.backend import Backend
from tests.harness.raw_viewer import RawViewer
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.web.ws.asgi_bridge import AsgiBridge

MAX_MESSAGE = 65_536
MESSAGES_PER_S = 50


async def flood(viewer: RawViewer, frame: Frame, count: int) -> None:
    """Many frames at once; the server may hang up in the middle."""
    try:
        await viewer.write(frame.serialize(mask=True) * count)
    except ConnectionError:
        pass


async def test_a_ping_is_answered(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.say('{"type":"ping"}')
        assert await viewer.next() == {"type": "pong"}
        await viewer.say(' {"type": "ping", "more": [1]} ')
        assert await viewer.next() == {"type": "pong"}


async def test_what_is_not_understood_is_said_and_harms_nothing(
    replica: Replica, backend: Backend
) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        for text, code in (
            ("", "bad_message"),
            ("hello", "bad_message"),
            ("[]", "bad_message"),
            ('{"type":1}', "bad_message"),
            ('{"type":"\\ud800"}', "bad_message"),
            ("[" * 20_000, "bad_message"),
            (b'{"type":"ping"}', "bad_message"),
            (b"\xff\xfe", "bad_message"),
            ('{"type":"watch"}', "unknown_message"),
        ):
            await viewer.say(text)
            answer = await viewer.next()
            assert (answer["type"], answer["data"]["code"]) == ("error", code), text[:40]
        ids = await backend.publish_many("42", 1)
        assert await viewer.ids(1) == ids


async def test_the_longest_message_is_answered_and_one_byte_more_is_1009(replica: Replica) -> None:
    longest = '{"type":"ping","pad":"' + "x" * (MAX_MESSAGE - 24) + '"}'
    assert len(longest) == MAX_MESSAGE
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.say(longest)
        assert await viewer.next() == {"type": "pong"}
        await viewer.say(longest + " ")
        assert (await viewer.closed()).code == 1009
    await until(lambda: replica.viewers == 0)


async def test_a_message_in_many_parts_has_the_same_bound(replica: Replica) -> None:
    with await replica.raw("42") as viewer:
        # Fewer parts than there may be control frames and parts in a second: those are 4400.
        first = Frame(Opcode.TEXT, b"x" * 2000, fin=False)
        await viewer.write(first.serialize(mask=True))
        await flood(viewer, Frame(Opcode.CONT, b"x" * 2000, fin=False), 33)
        await viewer.until_end()
        assert viewer.close_code == 1009
    await until(lambda: replica.viewers == 0)


async def test_a_text_that_is_not_utf8_is_1007(replica: Replica) -> None:
    with await replica.raw("42") as viewer:
        await viewer.write(Frame(Opcode.TEXT, b'{"type":"\xff"}').serialize(mask=True))
        await viewer.answer()
        while viewer.close_code is None:
            await viewer.read()
        assert viewer.close_code == 1007
    await until(lambda: replica.viewers == 0)


async def test_what_is_refused_may_come_with_the_viewers_own_close(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """In one piece: by then the connection is closing, and a second close is a mistake of ours."""
    close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
    for refused in (
        Frame(Opcode.TEXT, b"\xff").serialize(mask=True),
        Frame(Opcode.PING, b"").serialize(mask=True) * (MESSAGES_PER_S + 1),
        Frame(Opcode.TEXT, b"{}").serialize(mask=True) * (MESSAGES_PER_S + 1),
    ):
        with await replica.raw("42") as viewer:
            await viewer.next_frames(type="current_state")
            await viewer.write(refused + close)
            await viewer.until_end()
            assert viewer.close_code == 1000
    await until(lambda: replica.viewers == 0)
    assert caplog.text == ""


async def test_a_flood_of_messages_is_4400(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        for _ in range(MESSAGES_PER_S + 1):
            await viewer.say('{"type":"ping"}')
        frames, close = await viewer.rest()
        assert close.code == 4400
        assert frames[-1]["data"]["code"] == "too_many_messages"
        assert [f["type"] for f in frames[:-1]] == ["pong"] * MESSAGES_PER_S
    await until(lambda: replica.viewers == 0)


async def test_what_waits_for_an_asgi_application_is_bounded(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read of empty messages was 16,000 of them, and 0.2 s in which nobody else was served."""
    waiting: list[int] = []
    on_text = AsgiBridge._on_text

    def counted(self: AsgiBridge, text: str) -> None:
        on_text(self, text)
        waiting.append(self._inbox.qsize())

    monkeypatch.setattr(AsgiBridge, "_on_text", counted)
    async with Replica(redis_server.url, sender="asgi") as replica:
        with await replica.raw("42") as viewer:
            await flood(viewer, Frame(Opcode.TEXT, b""), 40_000)
            await viewer.until_end()
        await until(lambda: replica.viewers == 0)
    assert max(waiting) <= 4 * MESSAGES_PER_S
    assert len(waiting) < 20 * MESSAGES_PER_S, "the rest is not even parsed"


async def test_a_flood_of_control_frames_or_empty_parts_is_4400(
    replica: Replica, backend: Backend
) -> None:
    """Each costs a callback, none counts as a message."""
    for name, first, frame in (
        ("ping", b"", Frame(Opcode.PING, b"x")),
        ("pong", b"", Frame(Opcode.PONG, b"x")),
        (
            "part",
            Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True),
            Frame(Opcode.CONT, b"", fin=False),
        ),
    ):
        with await replica.raw("42") as viewer:
            await viewer.write(first)
            await flood(viewer, frame, 20 * MESSAGES_PER_S)
            await viewer.until_end()
            assert viewer.close_code == 4400, name
        await until(lambda: replica.viewers == 0, name)


async def test_a_flood_hurts_nobody_else(replica: Replica, backend: Backend) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        floods = [await replica.raw("42") for _ in range(10)]
        await asyncio.gather(*(flood(f, Frame(Opcode.PING, b"x" * 100), 5000) for f in floods))
        ids = await backend.publish_many("42", 10)
        assert await viewer.ids(10) == ids
        for each in floods:
            each.close()
        await until(lambda: replica.viewers == 1)


async def test_bytes_that_are_no_frames_end_the_connection(replica: Replica) -> None:
    for garbage in (
        b"\xff" * 100,  # reserved bits
        Frame(Opcode.TEXT, b"unmasked").serialize(mask=False),
        b"\x89\xfe\x00\x80" + b"\0" * 132,  # a ping of 128 bytes
        b"\x88\x81\0\0\0\0x",  # a close with half a code
        Frame(Opcode.CONT, b"of nothing").serialize(mask=True),
    ):
        with await replica.raw("42") as viewer:
            await viewer.write(garbage)
            await viewer.until_end()
            assert viewer.close_code == 1002, garbage[:10]
        await until(lambda: replica.viewers == 0)


async def test_a_silent_peer_is_found_by_server_pings(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """Half-open: the socket is there, nobody answers."""
    # Time enough for the healthy one's pongs, which come out of this process, too.
    quick = {"ping_interval_s": 0.15, "ping_timeout_s": 3}
    async with (
        Replica(redis_server.url, sender=sender, viewer=quick) as replica,
        replica.watch("42") as healthy,  # its library answers pings by itself
    ):
        await healthy.state()
        with await replica.raw("42") as silent, await replica.raw("42") as late:
            await silent.until_end()
            pings = [f for f in silent.received if f.opcode is Opcode.PING]
            assert len(pings) == 1
            assert silent.close_code == 1011
            await late.until_end()
        await until(lambda: replica.viewers == 1)
        ids = await backend.publish_many("42", 1)
        assert await healthy.ids(1) == ids


async def test_a_silent_peer_with_a_full_buffer_is_found_too(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """The ping itself cannot be sent any more; the connection has to end all the same."""
    quick = {"ping_interval_s": 0.15, "ping_timeout_s": 0.3}
    async with Replica(redis_server.url, sender=sender, viewer=quick) as replica:
        with await replica.raw("42", receive_buffer=4096):
            await backend.publish_many("42", 3000, pad=1000, type_="log")
            await until(lambda: replica.viewers == 0)
