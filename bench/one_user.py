"""One user who makes the gateway ask a backend, and another user who wants an answer meanwhile.

Three parts, each a process of its own so that none delays another: the backend that is asked who
may watch what, the user who means harm, and the bystander. As a process: `python -m bench.one_user`
reads JSON lines; `serve` and `attack` begin their part, `ask` asks for so many seconds and tells
how long each answer took, `stop` tells what was done.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from bench import reader as reading
from bench import users
from bench.commands import answer_commands

#: What the backend takes for an operation `slow-...`; less than `source.timeout_s`.
SLOW_S: Final = 1.5
ATTACKER: Final = "mallory"
BYSTANDER: Final = "ann"
#: As many as a user may have, and as one of them may watch.
SOCKETS: Final = 10
WATCHES: Final = 128
SLOW_IDS: Final = 64
BAD_IDS: Final = 5
#: Connections that read pages; pages do not count for the limit.
PAGE_READERS: Final = 8
PAUSE_S: Final = 0.2
#: The bystander's pace.
ASKED_PER_S: Final = 50
ANSWER_S: Final = 10.0
GOOD: Final = b'{"status":"running"}'


async def get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, headers: dict[str, str]
) -> int:
    """The status of one request on a connection that is kept; its body is read."""
    lines = [f"{name}: {value}" for name, value in {"Host": "127.0.0.1", **headers}.items()]
    writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
    async with asyncio.timeout(ANSWER_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        size = head.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(size or 0))
    return int(head[9:12])


class Part:
    """What one process does."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: Counter[str] = Counter()
        self._since_s = time.monotonic()
        self._server: asyncio.Server | None = None

    async def serve(self, *, port: int) -> dict[str, Any]:
        """Be the backend."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", port)
        return {}

    async def attack(self, *, kind: str, port: int, secret: str) -> dict[str, Any]:
        """Be the user who means harm."""
        headers = users.sign_in(secret, ATTACKER)
        self._since_s = time.monotonic()
        if kind == "refresh":
            works = [self._refresh(port, headers) for _ in range(SOCKETS)]
        elif kind == "reading":
            asks = ("history=all", "last_event_id=0-0")  # the newest there are; and every one
            works = [
                reading.history(port, headers, self._done, query=asks[n % 2])
                for n in range(SOCKETS)
            ]
        elif kind == "reading-pages":
            works = [reading.pages(port, headers, self._done) for _ in range(PAGE_READERS)]
        else:
            ids = [f"slow-{number}" for number in range(SLOW_IDS)]
            ids += [f"bad-{number}" for number in range(BAD_IDS)]
            works = [self._request(port, headers, name) for name in ids]
        for work in works:
            self._tasks.add(asyncio.create_task(work))
        return {"members": len(works)}

    async def ask(self, *, port: int, secret: str, seconds: float) -> dict[str, Any]:
        """Be the bystander: how long each request took, and what came of it."""
        headers = users.sign_in(secret, BYSTANDER)
        ends = time.monotonic() + seconds
        took_ms: list[float] = []
        answers: Counter[str] = Counter()
        number = 0
        while (began := time.monotonic()) < ends:
            number += 1
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    path = f"/operations/job-{number}"
                    answers[str(await get(reader, writer, path, headers))] += 1
                finally:
                    writer.close()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                answers["none"] += 1
            took_ms.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(max(0.0, began + 1 / ASKED_PER_S - time.monotonic()))
        return {"took_ms": took_ms, "answers": answers}

    async def stop(self) -> dict[str, Any]:
        """What was done since it began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return {"done": self._done, "seconds": time.monotonic() - self._since_s}

    # -- the backend -----------------------------------------------------------------------------

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                self._done["asked"] += 1
                status, body = 200, GOOD
                if path.startswith(b"/slow-"):
                    await asyncio.sleep(SLOW_S)
                elif path.startswith(b"/bad-"):
                    status, body = 500, b""
                head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    # -- the user who means harm -----------------------------------------------------------------

    async def _refresh(self, port: int, headers: Mapping[str, str]) -> None:
        """All watches that one socket may have, and the same good token again and again."""
        token = headers["Authorization"].partition(" ")[2]
        refresh = json.dumps({"type": "refresh", "token": token})
        while True:
            try:
                async with connect(
                    f"ws://127.0.0.1:{port}/ws", additional_headers=headers, compression=None
                ) as socket:
                    # Unread, it would be a slow viewer, whose watches wait.
                    reading = asyncio.create_task(_read_all(socket))
                    self._tasks.add(reading)
                    reading.add_done_callback(self._tasks.discard)
                    for number in range(WATCHES):
                        text = json.dumps({"type": "watch", "operation": f"job-{number}"})
                        await socket.send(text)
                    await asyncio.sleep(1.0)  # what one may say in a second begins again
                    while True:
                        await socket.send(refresh)
                        self._done["refresh"] += 1
                        await asyncio.sleep(0)
            except (OSError, TimeoutError, WebSocketException):
                self._done["closed"] += 1
            await asyncio.sleep(PAUSE_S)

    async def _request(self, port: int, headers: dict[str, str], name: str) -> None:
        """One operation that is slow or fails, over and over."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    self._done[str(await get(reader, writer, f"/operations/{name}", headers))] += 1
                finally:
                    writer.close()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                self._done["none"] += 1
            await asyncio.sleep(0.01)


async def _read_all(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()


async def serve() -> None:
    """Answer commands until standard input ends."""
    part = Part()
    await answer_commands(
        {"serve": part.serve, "attack": part.attack, "ask": part.ask, "stop": part.stop}
    )


if __name__ == "__main__":
    uvloop.run(serve())
