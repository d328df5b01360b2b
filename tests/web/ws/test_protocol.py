"""The protocol of a socket: what an idle one has, small frames read without websockets, and that
nothing of a closed connection stays.
"""

import gc
from collections.abc import Awaitable, Callable, Iterator

import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import connected
from tidegate.web.ws.protocol import WebSocketProtocol

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize("sender", ["direct"])
async def test_an_idle_socket_is_only_what_it_needs(replica: Replica) -> None:
    """Nothing of websockets, before and after it has answered pings."""
    async with replica.watch("42") as viewer:
        await viewer.state()
        (socket,) = (
            thing for thing in gc.get_objects() if type(thing) is WebSocketProtocol and thing.owner
        )
        assert socket._inbound is None
        keepalive = socket._shared.keepalive
        keepalive.stop(socket)
        keepalive._ping(socket)
        await until(lambda: not keepalive._pongs._slots, "the pong came")
        assert socket.slot in keepalive._turns._slots
        assert socket._inbound is None


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Whatever is not freed by counting references stays, and is seen."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    kinds = (ServerProtocol, WebSocketProtocol)
    return sum(type(thing) in kinds for thing in gc.get_objects())


async def _client_closes(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()


async def _client_vanishes(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        viewer.vanish()


async def _client_vanishes_at_once(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        viewer.vanish()


async def _server_refuses(replica: Replica) -> None:
    async with replica.watch("no%20id") as viewer:
        await viewer.rest()


async def _operation_finishes(replica: Replica) -> None:
    async with replica.watch("finished") as viewer:
        await viewer.rest()


async def _frame_is_garbage(replica: Replica) -> None:
    with await replica.raw("42") as viewer:
        await viewer.write(b"\xff" * 20)
        await viewer.until_end()


async def _message_is_too_big(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.say("x" * 65_537)
        await viewer.rest()


async def _pings_flood(replica: Replica) -> None:
    with await replica.raw("42") as viewer:
        await viewer.write(Frame(Opcode.PING, b"").serialize(mask=True) * 60)
        await viewer.until_end()


WAYS_TO_END: list[Callable[[Replica], Awaitable[None]]] = [
    _client_closes,
    _client_vanishes,
    _client_vanishes_at_once,
    _server_refuses,
    _operation_finishes,
    _frame_is_garbage,
    _message_is_too_big,
    _pings_flood,
]


async def test_no_connection_survives_its_end(
    redis_server: Server, backend: Backend, sender: str, no_collector: None
) -> None:
    """18 KiB each, and a full collection that finds them stops the loop (235 ms for 5,000)."""
    await backend.finish("finished")
    async with Replica(redis_server.url, sender=sender) as replica:
        before = connections()
        for way in WAYS_TO_END:
            for _ in range(3):
                await way(replica)
            await until(lambda: replica.viewers == 0, way.__name__)
            await until(lambda: connections() <= before, f"freed after {way.__name__}")


@pytest.mark.parametrize("sender", ["direct"])
@pytest.mark.parametrize("code", [1000, 1001, 1005, 3001])
async def test_the_close_of_a_viewer_is_echoed(replica: Replica, code: int) -> None:
    """The usual ones are read without websockets, alone or behind other frames."""
    said = b"" if code == 1005 else code.to_bytes(2, "big")
    close = Frame(Opcode.CLOSE, said).serialize(mask=True)
    for before in (b"", Frame(Opcode.PONG, b"").serialize(mask=True)):
        with await replica.raw("42") as viewer:
            await viewer.next_frames(type="current_state")
            await viewer.write(before + close)
            await viewer.until_end()
            assert viewer.received[-1] == Frame(Opcode.CLOSE, said)
        await until(lambda: replica.viewers == 0)
    assert replica.runtime._connections.ends == {"viewer_left": 2}


VERSION = "Sec-WebSocket-Version: 13"
WRONG: dict[str, tuple[str, ...]] = {
    "no key": ("Host: x", VERSION),
    "a short key": ("Host: x", "Sec-WebSocket-Key: short", VERSION),
    "a key that is no base64": ("Host: x", KEY[:-3] + "*==", VERSION),
    "two keys": ("Host: x", KEY, KEY, VERSION),
    "no version": ("Host: x", KEY),
    "another version": ("Host: x", KEY, "Sec-WebSocket-Version: 8"),
    "a body": ("Host: x", KEY, VERSION, "Content-Length: 2"),
}


@pytest.mark.parametrize("sender", ["direct"])
@pytest.mark.parametrize("lines", WRONG.values(), ids=WRONG)
async def test_a_bad_handshake_is_answered_in_http(
    replica: Replica, lines: tuple[str, ...]
) -> None:
    head = ("GET /ws/operations/42 HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", *lines)
    async with connected(replica.settings.server.port) as wire:
        await wire.send("\r\n".join((*head, "", "")).encode())
        answer = await wire.answer()
        assert answer.status == 400, answer
        assert answer.headers["connection"] == "close"
        assert answer.body, "it says why"
        assert await wire.rest() == b""
    assert replica.runtime._public_port.refusals["bad_request"] == 1
