"""What `web.server.answering` relies on of uvicorn: its public surface, and nothing besides."""

from __future__ import annotations

import asyncio
import inspect
import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.server import ServerState

import tidegate
from tests.harness.waiting import until
from tidegate.web.server.answering import CONNECTION, READS_BODY, Answering
from tidegate.web.server.exchange import Exchange

GET = b"GET /x?y HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
ADDRESSES: dict[str, object] = {"peername": ("192.0.2.1", 7), "sockname": ("192.0.2.2", 80)}


class Wire(asyncio.Transport):
    """Only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.out += data

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class Owner:
    """A connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = Wire()
        self.is_last = False
        self.is_write_paused = False
        self.told: list[str] = []

    @property
    def out(self) -> bytes:
        assert isinstance(self.transport, Wire)
        return self.transport.out

    def answered(self) -> None:
        self.told.append("answered")

    def end(self) -> None:
        self.told.append("end")

    def body_is_read(self) -> None:
        self.told.append("body is read")

    def go_on(self) -> None:
        self.told.append("go on")


class App:
    """Keeps its scope, and does with the rest what a test wants."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.scope: Any = None
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        try:
            await self.run(receive, send)
        finally:
            self.ended.set()


def begun(app: Any, data: bytes, owner: Owner, version: str = "1.1") -> Exchange:
    tasks: set[asyncio.Task[None]] = set()
    answering = Answering(app, tasks)
    answering.set_date()
    exchange = Exchange(owner, ADDRESSES, version)
    exchange.begin(answering.protocol(exchange), data)
    assert len(tasks) == 1
    return exchange


async def answer(_: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-y", b"z")]})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


def test_uvicorn_is_in_the_range_that_was_tested() -> None:
    wanted = next(r for r in map(Requirement, requires("tidegate") or ()) if r.name == "uvicorn")
    assert wanted.specifier.contains(uvicorn.__version__)


def test_nothing_else_of_uvicorn_is_imported() -> None:
    """And no class of it is the base of one of ours."""
    root = Path(tidegate.__file__).parent
    found = {
        (path.relative_to(root).as_posix(), line)
        for path in root.rglob("*.py")
        for line in re.findall(r"^\s*((?:from|import) uvicorn.*)$", path.read_text(), re.MULTILINE)
    }
    assert found == {
        ("web/server/answering.py", "import uvicorn"),
        ("web/server/answering.py", "from uvicorn.server import ServerState"),
    }


def test_the_constructor_and_the_state_are_as_they_are_used() -> None:
    assert {"tasks", "default_headers"} <= vars(ServerState()).keys()
    config = uvicorn.Config(answer, http="httptools", ws="none", lifespan="off", log_config=None)
    config.load()
    kind = cast("Any", config.http_protocol_class)
    assert issubclass(kind, asyncio.Protocol)
    assert list(inspect.signature(kind).parameters)[:3] == ["config", "server_state", "app_state"]


async def test_a_request_is_answered_and_its_end_told() -> None:
    owner, app = Owner(), App(answer)
    begun(app, GET, owner)
    await app.ended.wait()
    head, _, body = owner.out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert b"\r\nx-y: z\r\n" in head
    assert b"server: " not in head
    assert body == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    assert owner.told == ["answered"]


async def test_what_the_application_is_told_of_its_connection() -> None:
    owner, app = Owner(), App(answer)
    begun(app, GET, owner)
    await app.ended.wait()
    scope = app.scope
    assert scope["extensions"][CONNECTION] is owner
    assert scope["state"] == {}
    assert (scope["client"], scope["server"]) == (("192.0.2.1", 7), ("192.0.2.2", 80))
    assert (scope["path"], scope["query_string"], scope["scheme"]) == ("/x", b"y", "http")
    scope["extensions"][READS_BODY]()
    assert owner.told == ["answered"], "it is another request's connection now"


async def test_the_last_answer_of_a_connection_says_so() -> None:
    owner, app = Owner(), App(answer)
    owner.is_last = True
    begun(app, GET, owner)
    await app.ended.wait()
    assert owner.out.count(b"\r\nconnection: close\r\n") == 1
    assert "end" in owner.told


async def test_a_body_is_taken_in_parts() -> None:
    size = 0

    async def read(receive: Any, send: Any) -> None:
        nonlocal size
        await reading.wait()
        more = True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await answer(receive, send)

    reading = asyncio.Event()
    owner, app = Owner(), App(read)
    exchange = begun(app, POST, owner)
    exchange.feed(b"x" * 99_999)
    assert exchange.is_full
    reading.set()
    await until(lambda: not exchange.is_full)
    assert owner.told == ["go on"]
    exchange.feed(b"x")
    await app.ended.wait()
    assert size == 100_000


async def test_a_client_that_is_gone_is_told_to_the_application() -> None:
    told: list[str] = []

    async def wait(receive: Any, send: Any) -> None:
        waiting.set()
        told.extend([(await receive())["type"] for _ in range(2)])
        await answer(receive, send)

    waiting = asyncio.Event()
    owner, app = Owner(), App(wait)
    exchange = begun(app, GET, owner)
    await waiting.wait()
    exchange.let_go()
    await app.ended.wait()
    assert told[-1] == "http.disconnect"
    assert (owner.out, owner.told) == (b"", [])


async def test_an_answer_waits_while_the_one_before_is_not_sent() -> None:
    owner, app = Owner(), App(answer)
    owner.is_write_paused = True
    exchange = begun(app, GET, owner)
    await until(lambda: exchange.has_begun)
    assert owner.out == b""
    exchange.resume_writing()
    await app.ended.wait()
    assert owner.told == ["answered"]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in the middle"])
async def test_an_application_that_fails_ends_the_connection(late: bool) -> None:
    async def fail(_: Any, send: Any) -> None:
        if late:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("on purpose")

    owner, app = Owner(), App(fail)
    begun(app, GET, owner)
    await until(lambda: "end" in owner.told)
    assert owner.out.startswith(b"HTTP/1.1 200" if late else b"HTTP/1.1 500")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_of_http_1_0_gets_no_chunks(method: str) -> None:
    owner, app = Owner(), App(answer)
    owner.is_last = True
    data = f"{method} /x HTTP/1.0\r\nExpect: 100-continue\r\n\r\n".encode()
    begun(app, data, owner, "1.0")
    await app.ended.wait()
    head, _, body = owner.out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in head
    assert body == (b"ab" if method == "GET" else b"")
