"""The port `Sender` over both ways to a socket and to an event stream, and over the fake that
tests of the gateway use: one contract for all of them.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

import pytest

from tests.gateway.fake_socket import FakeSocket
from tests.harness.text_frames import split_texts
from tests.harness.waiting import until
from tidegate.core.ports import Sender
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO
from tidegate.model.settings import Settings, ViewerSettings
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.server.answering import CONNECTION, Answering
from tidegate.web.server.http_protocol import HttpProtocol
from tidegate.web.server.port import admin_port
from tidegate.web.sse.sender import SseSender
from tidegate.web.ws.protocol import SocketsShared, WebSocketProtocol
from tidegate.web.ws.sender import DirectSender

HIGH, LOW = 65_536, 16_384
LIMITS = ViewerSettings(high_water_bytes=HIGH, low_water_bytes=LOW, close_timeout_s=60)


class Side(Protocol):
    """A sender, and the peer of its socket, which reads all unless it is stuck."""

    sender: Sender

    def stick(self) -> None: ...
    def read_on(self) -> None: ...
    def vanish(self) -> None: ...

    @property
    def texts(self) -> list[bytes]: ...
    @property
    def code(self) -> int | None: ...

    #: What an event stream ends for, and the peer is meant to come back for, is not told.
    tells_every_code: bool


class Fake:
    tells_every_code = True

    def __init__(self) -> None:
        self.sender: Sender = (made := FakeSocket(high=HIGH, low=LOW))
        self.socket = made
        self.stick, self.read_on, self.vanish = made.stick, made.read, made.vanish

    @property
    def texts(self) -> list[bytes]:
        return [json.dumps(frame).encode() for frame in self.socket.frames]

    @property
    def code(self) -> int | None:
        by_name = {code.name: code.code for code in close_codes.CLOSE_CODES.values()}
        return by_name.get(self.socket.end)


class Asgi:
    tells_every_code = True

    def __init__(self) -> None:
        made = AsgiSender(self._send, high_water_bytes=HIGH, low_water_bytes=LOW)
        self.sender: Sender = made
        self.vanish = made.lost
        self._room = asyncio.Event()
        self._room.set()
        self.stick, self.read_on = self._room.clear, self._room.set
        self.texts: list[bytes] = []
        self.code: int | None = None
        self.running = asyncio.create_task(made.run())

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._room.wait()
        if message["type"] == "websocket.close":
            self.code = message["code"]
            asyncio.get_running_loop().call_soon(self.vanish)  # the server says disconnect
        else:
            self.texts.append(message["text"].encode())


class Direct:
    """A protocol on one end of a socket pair."""

    tells_every_code = True

    def __init__(self) -> None:
        self.sender: Sender
        self._room = asyncio.Event()
        self._room.set()
        self.stick, self.read_on = self._room.clear, self._room.set
        self._received = b""
        self._peer, self._ours = socket.socketpair()
        self._peer.settimeout(0)
        self._ours.settimeout(0)
        self._reading: asyncio.Task[None]

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock=self._ours)
        members: set[WebSocketProtocol] = set()
        protocol = WebSocketProtocol(transport, SocketsShared(LIMITS, members, lambda: None))
        self.sender = protocol.owner = DirectSender(protocol)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.wait()
            data = await loop.sock_recv(self._peer, 65_536)
            self._received += data
            if self.code is not None:
                self._peer.close()  # a browser would answer it first
            if not data or self.code is not None:
                return

    def vanish(self) -> None:
        self._reading.cancel()
        self._peer.close()

    async def close(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        self._peer.close()
        await until(lambda: self.sender.listener is None)

    @property
    def _frames(self) -> bytes:
        return self._received

    @property
    def code(self) -> int | None:
        end = self._frames[-4:]
        return int.from_bytes(end[2:], "big") if end[:2] == b"\x88\x02" else None

    @property
    def texts(self) -> list[bytes]:
        return split_texts(self._frames if self.code is None else self._frames[:-4])


class Events:
    """An event stream through any ASGI server."""

    tells_every_code = False

    def __init__(self) -> None:
        made = event_sender(self._send, None)
        self.sender: Sender = made
        self.vanish = made.lost
        self._room = asyncio.Event()
        self._room.set()
        self.stick, self.read_on = self._room.clear, self._room.set
        self._body = b""
        self.running = asyncio.create_task(made.run())

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._room.wait()
        if message["type"] == "http.response.body":
            self._body += message["body"]
            if not message["more_body"]:
                asyncio.get_running_loop().call_soon(self.vanish)  # the server says disconnect

    @property
    def code(self) -> int | None:
        _, is_told, end = self._body.partition(b"event: end\ndata: ")
        return json.loads(end)["data"]["code"] if is_told else None

    @property
    def texts(self) -> list[bytes]:
        return event_texts(self._body)


class DirectEvents(Direct):
    """An event stream on our own server, past ASGI."""

    tells_every_code = False

    async def open(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            sender = self.sender = event_sender(send, scope["extensions"][CONNECTION])
            running = asyncio.create_task(sender.run())
            assert (await receive())["type"] == "http.request"
            leaving = asyncio.create_task(receive())
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
            sender.lost()
            leaving.cancel()
            await running

        answering = Answering(app, set())
        connection = HttpProtocol(admin_port(Settings(), 1024), answering, set())
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: connection, sock=self._ours)
        self._reading = asyncio.create_task(self._read())
        await loop.sock_sendall(self._peer, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: hasattr(self, "sender"))
        self.sender.write(Batch([frame(-1)]))
        await until(lambda: connection.writer is not None)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.wait()
            data = await loop.sock_recv(self._peer, 65_536)
            self._received += data
            if self._received.endswith(b"\r\n0\r\n\r\n"):
                self._peer.close()
            if not data or self._peer.fileno() < 0:
                return

    @property
    def _body(self) -> bytes:
        _, _, left = self._received.partition(b"\r\n\r\n")
        body = b""
        while b"\r\n" in left:
            size, _, left = left.partition(b"\r\n")
            length = int(size, 16)
            body += left[:length]
            if len(left) >= length:
                assert left[length : length + 2] in (b"", b"\r", b"\r\n")
            left = left[length + 2 :]
        return body

    @property
    def code(self) -> int | None:
        _, is_told, end = self._body.partition(b"event: end\ndata: ")
        return json.loads(end)["data"]["code"] if is_told else None

    @property
    def texts(self) -> list[bytes]:
        return event_texts(self._body)[1:]


def event_sender(send: Any, connection: HttpProtocol | None) -> SseSender:
    """With a heartbeat that never comes."""
    transport = None if connection is None else connection.transport
    limits = LIMITS.model_copy(update={"sse_heartbeat_s": 3600})
    return SseSender(
        send, limits, connection=connection, transport=transport, final=frozenset(), hold_s=60
    )


def event_texts(body: bytes) -> list[bytes]:
    """The whole events that are frames, without what is theirs alone."""
    *whole, _ = body.split(b"\n\n")
    frames = [event for event in whole if not event.startswith((b"retry: ", b"event: end"))]
    return [event.removeprefix(b"data: ") for event in frames]


@pytest.fixture(params=["fake", "asgi", "direct", "events", "direct events"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    match request.param:
        case "fake":
            yield Fake()
        case "asgi" | "events":
            asgi = Asgi() if request.param == "asgi" else Events()
            yield asgi
            asgi.vanish()
            await asgi.running
        case _:
            direct = Direct() if request.param == "direct" else DirectEvents()
            await direct.open()
            yield direct
            await direct.close()


class Listener:
    """What it was told, in order."""

    def __init__(self, sender: Sender) -> None:
        self.told: list[str] = []
        sender.listener = self

    def on_paused(self) -> None:
        self.told.append("paused")

    def on_resumed(self) -> None:
        self.told.append("resumed")

    def on_closed(self) -> None:
        self.told.append("closed")


def frame(number: int) -> Frame:
    kind = "progress" if number else "current_state"
    text = json.dumps({"type": kind, "n": number, "pad": "x" * 500})
    return Frame(ZERO, text.encode(), FrameKind.CONTROL)


def numbers(side: Side) -> list[int]:
    return [json.loads(text)["n"] for text in side.texts]


def fill(side: Side) -> int:
    """Write until it is full; how many frames."""
    count = 0
    while side.sender.writable:
        side.sender.write(Batch([frame(count)]))
        count += 1
        assert count < 100_000
    return count


async def test_a_full_buffer_is_told_before_write_returns_and_loses_nothing(side: Side) -> None:
    listener = Listener(side.sender)
    side.stick()
    count = fill(side)
    assert listener.told == ["paused"]
    side.sender.write(Batch([frame(count)]))  # a refusal, say
    assert listener.told == ["paused"], "once"
    side.read_on()
    await until(lambda: listener.told == ["paused", "resumed"], lambda: f"{listener.told}")
    assert side.sender.writable
    await until(lambda: len(side.texts) == count + 1)
    assert numbers(side) == list(range(count + 1))


async def test_frames_joined_in_one_write_arrive_one_by_one(side: Side) -> None:
    side.sender.write(Batch(map(frame, range(5))))
    await until(lambda: len(side.texts) == 5)
    assert numbers(side) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("first", [close_codes.SLOW, close_codes.FINISHED], ids=["slow", "end"])
@pytest.mark.parametrize("full", [False, True])
async def test_a_close_comes_behind_what_was_written_and_the_first_one_counts(
    side: Side, full: bool, first: CloseCode
) -> None:
    listener = Listener(side.sender)
    count = 3
    if full:
        side.stick()
        count = fill(side)
    else:
        for number in range(count):
            side.sender.write(Batch([frame(number)]))
    side.sender.close(first)
    side.sender.close(close_codes.FORBIDDEN)
    assert not side.sender.writable
    side.read_on()
    await until(lambda: listener.told[-1:] == ["closed"], lambda: f"{listener.told}")
    assert "resumed" not in listener.told, "nothing may be written behind a close"
    assert listener.told.count("closed") == 1
    is_told = side.tells_every_code or first is close_codes.FINISHED
    assert side.code == (first.code if is_told else None)
    assert numbers(side) == list(range(count))


async def test_one_that_vanishes_is_told_once_and_a_write_harms_nobody(side: Side) -> None:
    listener = Listener(side.sender)
    side.sender.write(Batch([frame(0)]))
    side.vanish()
    await until(lambda: bool(listener.told), lambda: f"{listener.told}")
    assert not side.sender.writable
    assert side.sender.listener is None
    with suppress(OSError, RuntimeError):  # what the fan-out is ready for
        side.sender.write(Batch([frame(1)]))
    side.sender.close(close_codes.FINISHED)
    assert listener.told == ["closed"]


async def test_an_aborted_sender_has_nothing_unsent_but_what_the_server_is_taking() -> None:
    taken = asyncio.Event()

    async def send(_: MutableMapping[str, Any]) -> None:
        await taken.wait()

    sender = AsgiSender(send, high_water_bytes=HIGH, low_water_bytes=LOW)
    sending = asyncio.create_task(sender.run())
    batches = [Batch([Frame(ZERO, b'{"type":"log"}', FrameKind.ENTRY)]) for _ in range(3)]
    for batch in batches:
        sender.write(batch)
    await asyncio.sleep(0)
    size = batches[0].size_bytes
    assert sender.unsent_bytes == 3 * size
    sender.abort(close_codes.SLOW)
    assert sender.unsent_bytes == size
    taken.set()
    await sending
    assert sender.unsent_bytes == 0
