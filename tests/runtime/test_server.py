"""How a server ends: what has come as a whole is answered, and nothing behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.harness.waiting import until
from tests.web.server.wire import Wire, connected, request
from tidegate.model.settings import Settings
from tidegate.runtime.server import Server
from tidegate.web.problem import send_response
from tidegate.web.server.http_protocol import HttpProtocol, bind_http
from tidegate.web.server.port import admin_port

PATH = "/wait"


class App:
    """Answers when it may, with what it was sent."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if scope["path"] == PATH:
            await self.may.wait()
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send_response(send, 200, {}, body or b"none")


class Stage:
    """A server, and a client of it."""

    def __init__(self, shutdown_timeout_s: float) -> None:
        settings = Settings.model_validate({"server": {"shutdown_timeout_s": shutdown_timeout_s}})
        self.app = App()
        self.port = admin_port(settings, 1024)
        self.server = Server(self.app, settings, bind_http(self.port))
        self.running: asyncio.Task[None]
        self.wire: Wire

    async def stop(self) -> None:
        """And wait until the connection is told."""
        (connection,) = self.server.connections
        assert isinstance(connection, HttpProtocol)
        self.server.stop()
        await until(lambda: connection._is_shut)


@contextlib.asynccontextmanager
async def staged(shutdown_timeout_s: float = 30) -> AsyncIterator[Stage]:
    stage = Stage(shutdown_timeout_s)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    number = listener.getsockname()[1]
    stage.running = asyncio.create_task(stage.server.serve(listener))
    await stage.server.listening.wait()
    async with connected(number) as stage.wire:
        yield stage
        await stage.running
        assert not stage.server.connections
        assert not stage.server.tasks
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", number)


async def test_one_without_a_request_is_closed() -> None:
    async with staged() as stage:
        await stage.wire.send(request("GET", "/a"))
        await stage.wire.answer()
        stage.server.stop()
        assert await stage.wire.rest() == b""


async def test_whole_requests_are_answered_and_the_last_says_so() -> None:
    async with staged() as stage:
        half = request("GET", "/half")[:-2]
        await stage.wire.send(
            request("GET", PATH), request("GET", "/a"), request("POST", "/b", body=b"x"), half
        )
        await until(lambda: stage.app.asked == [PATH])
        await stage.stop()
        stage.app.may.set()
        answers = [await stage.wire.answer() for _ in range(3)]
        assert [answer.body for answer in answers] == [b"none", b"none", b"x"]
        assert await stage.wire.rest() == b""
        assert stage.app.asked == [PATH, "/a", "/b"]


async def test_the_last_of_them_says_that_it_is() -> None:
    async with staged() as stage:
        await stage.wire.send(request("GET", PATH), request("GET", "/a"))
        await until(lambda: stage.app.asked == [PATH])
        await stage.stop()
        await stage.wire.send(request("GET", "/late"))
        stage.app.may.set()
        answers = [await stage.wire.answer() for _ in range(2)]
        assert ["connection" in answer.headers for answer in answers] == [False, True]
        assert await stage.wire.rest() == b""
        assert stage.app.asked == [PATH, "/a"]


@pytest.mark.parametrize("behind", [b"", request("GET", "/late")], ids=["alone", "and more"])
async def test_a_body_on_its_way_is_waited_for(behind: bytes) -> None:
    async with staged() as stage:
        whole = request("POST", PATH, body=b"abc")
        await stage.wire.send(whole[:-1])
        await until(lambda: stage.app.asked == [PATH])
        await stage.stop()
        stage.app.may.set()
        await stage.wire.send(whole[-1:] + behind)
        answer = await stage.wire.answer()
        assert (answer.body, answer.headers["connection"]) == (b"abc", "close")
        assert await stage.wire.rest() == b""
        assert stage.app.asked == [PATH]


async def test_a_body_behind_a_request_is_waited_for() -> None:
    async with staged() as stage:
        whole = request("POST", "/b", body=b"abc")
        await stage.wire.send(request("GET", PATH), whole[:-1])
        await until(lambda: stage.app.asked == [PATH])
        await stage.stop()
        stage.app.may.set()
        assert (await stage.wire.answer()).body == b"none"
        await stage.wire.send(whole[-1:])
        answer = await stage.wire.answer()
        assert (answer.body, answer.headers["connection"]) == (b"abc", "close")


async def test_what_is_at_work_for_too_long_is_told_that_it_is_uncertain() -> None:
    async with staged(1) as stage:
        await stage.wire.send(request("POST", PATH, body=b"abc"))
        await until(lambda: stage.app.asked == [PATH])
        await stage.stop()
        answer = await stage.wire.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await stage.wire.rest() == b""
