"""What `web.server.http_protocol` takes for granted in uvicorn's private parts, and that nothing of
a closed connection stays.

When this fails after an update of uvicorn, the protocol has to be read against it before the range
in pyproject.toml is moved.
"""

from __future__ import annotations

import gc
import inspect
from importlib.metadata import requires

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import connected, request
from tidegate.model.settings import Settings
from tidegate.web.server.http_protocol import HttpProtocol, bind_http
from tidegate.web.server.port import admin_port

#: Overridden or called by us, and the parameters we count on.
METHODS: dict[str, list[str]] = {
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "shutdown": [],
    "pause_writing": [],
    "resume_writing": [],
    "handle_websocket_upgrade": [],
    "on_message_begin": [],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "on_response_complete": [],
    "timeout_keep_alive_handler": [],
    "_unset_keepalive_if_required": [],
}
ATTRIBUTES = (
    *("app", "app_state", "config", "loop", "logger", "access_logger", "access_log", "tasks"),
    *("connections", "server_state", "root_path", "ws_protocol_class", "transport", "flow"),
    *("parser", "pipeline", "cycle", "scope", "headers", "expect_100_continue"),
    *("timeout_keep_alive", "timeout_keep_alive_task"),
)
CYCLE = (
    *("scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers"),
    *("message_event", "expect_100_continue", "keep_alive", "on_response"),
)


def test_uvicorn_is_in_the_range_that_the_subclass_was_written_for() -> None:
    wanted = next(r for r in map(Requirement, requires("tidegate") or ()) if r.name == "uvicorn")
    assert wanted.specifier.contains(uvicorn.__version__)
    assert any(spec.operator == "<" for spec in wanted.specifier), "a private interface needs one"


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_are_there_with_their_parameters(name: str) -> None:
    theirs = inspect.signature(getattr(HttpToolsProtocol, name))
    assert list(theirs.parameters)[1:] == METHODS[name]


def test_nothing_of_uvicorn_is_overridden_by_accident() -> None:
    ours = {n for n, v in vars(HttpProtocol).items() if callable(v) and not n.startswith("__")}
    theirs = {name for name in dir(HttpToolsProtocol) if not name.startswith("__")}
    assert ours & theirs <= set(METHODS)


async def test_the_attributes_are_there() -> None:
    config = Config(app=lambda: None, log_config=None, ws="none")
    config.load()
    protocol = bind_http(admin_port(Settings(), 1024))(config, ServerState(), {})
    assert [name for name in ATTRIBUTES if not hasattr(protocol, name)] == []
    assert tuple(inspect.signature(RequestResponseCycle).parameters) == CYCLE
    assert {"pause_reading", "resume_reading", "read_paused"} <= {
        *dir(FlowControl),
        *inspect.getsource(FlowControl.__init__).replace("self.", "").split(),
    }


def protocols() -> int:
    return sum(isinstance(thing, HttpProtocol) for thing in gc.get_objects())


WAYS = ["answered", "in the pipe", "streamed", "no request", "upgraded", "refused"]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_of_a_closed_connection_waits_for_the_collector(
    redis_server: Server, backend: Backend, way: str
) -> None:
    (last,) = await backend.publish_many("42", 1)
    async with Replica(redis_server.url) as replica:
        gc.collect()
        gc.disable()
        try:
            if way == "upgraded":
                async with replica.watch("42") as viewer:
                    await viewer.state()
                    assert protocols() == 0
                return
            async with connected(replica.settings.server.port) as wire:
                if way == "answered":
                    await wire.send(request("GET", "/operations/42") * 3)
                    for _ in range(3):
                        await wire.answer()
                elif way == "in the pipe":
                    poll = request("GET", f"/operations/42/events?after={last}&wait=60")
                    await wire.send(poll * 3)
                    await until(lambda: replica.viewers == 1)
                elif way == "streamed":
                    await wire.send(request("GET", f"/sse/operations/42?last_event_id={last}"))
                    await until(lambda: replica.viewers == 1)
                    await backend.publish("42", "log")
                    (stream,) = replica.runtime._limiter._inside
                    await until(lambda: stream._write_chunk is not None)  # type: ignore[attr-defined]
                    await backend.publish("42", "log")
                    del stream
                elif way == "refused":
                    await wire.send(b"no request\r\n\r\n")
                    await wire.answer()
            await until(lambda: replica.runtime._public_port.open == 0)
            await until(lambda: replica.viewers == 0)
            await until(lambda: protocols() == 0, "a cycle keeps it")
        finally:
            gc.enable()
