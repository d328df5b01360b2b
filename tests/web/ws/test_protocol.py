"""What the subclass takes for granted in uvicorn's private parts, and that nothing of a closed
connection stays.

When this fails after an update of uvicorn, `web.ws.protocol` has to be read against it before the
range in pyproject.toml is moved.
"""

import asyncio
import gc
import inspect
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import requires

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.model.settings import ViewerSettings
from tidegate.web.ws.protocol import DirectProtocol, bind

#: Overridden or called by us, and the parameters we count on.
METHODS: dict[str, list[str]] = {
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "pause_writing": [],
    "resume_writing": [],
    "shutdown": [],
    "run_asgi": [],
    "send": ["message"],
    "receive": [],
    "send_receive_event_to_app": [],
    "send_500_response": [],
    "handle_ping": [],
    "handle_pong": ["event"],
    "handle_cont": ["event"],
    "handle_close": ["event"],
    "handle_parser_exception": [],
    "keepalive_timeout": [],
    "start_keepalive": [],
    "stop_keepalive": [],
    "on_task_complete": ["task"],
}
ATTRIBUTES = (
    *("app", "loop", "logger", "tasks", "transport", "queue", "conn", "frames", "read_paused"),
    *("writable", "close_sent", "close_timer", "disconnected", "handshake_complete"),
    *("handshake_initiated", "curr_msg_data_type"),
)


def test_uvicorn_is_in_the_range_that_the_subclass_was_written_for() -> None:
    wanted = next(r for r in map(Requirement, requires("tidegate") or ()) if r.name == "uvicorn")
    assert wanted.specifier.contains(uvicorn.__version__)
    assert any(spec.operator == "<" for spec in wanted.specifier), "a private interface needs one"


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_are_there_with_their_parameters(name: str) -> None:
    theirs = inspect.signature(getattr(WebSocketsSansIOProtocol, name))
    assert list(theirs.parameters)[1:] == METHODS[name]


def test_nothing_of_uvicorn_is_overridden_by_accident() -> None:
    ours = {n for n, v in vars(DirectProtocol).items() if callable(v) and not n.startswith("__")}
    theirs = {name for name in dir(WebSocketsSansIOProtocol) if not name.startswith("__")}
    assert ours & theirs <= set(METHODS)


async def test_the_attributes_are_there() -> None:
    config = Config(app=lambda: None, ws_per_message_deflate=False, log_config=None)
    config.load()
    protocol = bind(ViewerSettings())(config, ServerState(), {})
    missing = [name for name in ATTRIBUTES if not hasattr(protocol, name)]
    assert missing == []
    assert issubclass(ClientDisconnected, OSError), "that is what ASGI promises to applications"
    protocol.conn.parser.close()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Whatever is not freed by counting references stays, and is seen."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    return sum(type(thing) is ServerProtocol for thing in gc.get_objects())


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


async def test_a_bad_handshake_is_answered_in_http(replica: Replica) -> None:
    """Its connection is left to the garbage collector: websockets' errors hold it."""
    port = replica.settings.server.port
    upgrade = b"GET /ws/operations/42 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    short_key = b"Host: x\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n"
    for head in (upgrade, upgrade + short_key):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"\r\n")
        answer = await reader.read()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 426", b"HTTP/1.1 500")), answer
        writer.close()
        await writer.wait_closed()
