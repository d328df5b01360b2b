"""A viewer that holds the gateway to its promise with every frame it reads.

The ids of entries rise strictly; only a `gap` frame lets them start anew. `current_state` is the
first frame and comes once. Each is as `/asyncapi.json` describes it. What a test asks for is then
plain data: frames, entries, the close.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.described import assert_described
from tests.harness.waiting import PATIENCE_S

#: How long a frame takes is the machine's matter: this ends what would never come.
TIMEOUT_S = PATIENCE_S

Json = dict[str, Any]


class Close(NamedTuple):
    """How a connection ended; 1006 without a close frame."""

    code: int
    reason: str


def position(text: str) -> tuple[int, int]:
    """A stream id to compare with."""
    ms, _, seq = text.partition("-")
    return int(ms), int(seq)


class OrderCheck:
    """The rule for one viewer's frames, over all its connections."""

    def __init__(self) -> None:
        self.last = (0, 0)

    def see(self, frame: Json) -> None:
        """Raises AssertionError when this frame must not follow the ones before."""
        if frame["type"] == "gap":
            before = frame["data"].get("before")
            self.last = (0, 0) if before is None else before_of(position(before))
        elif "id" in frame:
            here = position(frame["id"])
            assert here > self.last, f"{frame['id']} after {self.last[0]}-{self.last[1]}"
            self.last = here


def before_of(here: tuple[int, int]) -> tuple[int, int]:
    ms, seq = here
    return (ms, seq - 1) if seq else (ms - 1, 2**64 - 1)


class Viewer:
    """Use as an async context manager; `frames` has everything read so far."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        # Without a bound on unread frames a viewer that a test does not read closes at once.
        self._options = {
            "compression": None,
            "open_timeout": TIMEOUT_S,
            "close_timeout": 2,
            "max_size": None,
            "max_queue": None,
        } | options
        self._order = OrderCheck()
        self.frames: list[Json] = []
        self.socket: ClientConnection

    async def __aenter__(self) -> Self:
        self.socket = await connect(
            self.url,
            subprotocols=["tidegate.v1"],  # type: ignore[list-item]  # a NewType of str
            **self._options,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    # --- reading

    async def next(self) -> Json:
        """The next frame, checked."""
        async with asyncio.timeout(TIMEOUT_S):
            text = await self.socket.recv()
        assert isinstance(text, str), "frames are text"
        frame: Json = json.loads(text)
        assert_described(frame)
        assert (frame["type"] == "current_state") is (
            not self.frames and frame["type"] != "error"
        ), f"current_state is the first frame and comes once, got {frame} as {len(self.frames)}"
        self._order.see(frame)
        self.frames.append(frame)
        return frame

    async def state(self) -> Json:
        """The first frame."""
        frame = await self.next()
        assert frame["type"] == "current_state", frame
        return frame

    async def entries(self, count: int) -> list[Json]:
        """The next `count` entries; nothing else may come between."""
        found = [await self.next() for _ in range(count)]
        assert all("id" in frame for frame in found), found
        return found

    async def ids(self, count: int) -> list[str]:
        return [frame["id"] for frame in await self.entries(count)]

    async def until(self, **wanted: object) -> Json:
        """Read up to the first frame with these values, and return it."""
        while True:
            frame = await self.next()
            if all(frame.get(name) == value for name, value in wanted.items()):
                return frame

    async def until_id(self, entry_id: str) -> list[Json]:
        """Everything up to this entry, itself included."""
        start = len(self.frames)
        await self.until(id=entry_id)
        return self.frames[start:]

    async def closed(self) -> Close:
        """The close that comes next; a frame before it is an error."""
        try:
            frame = await self.next()
        except ConnectionClosed as closed:
            return Close(closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else Close(1006, "")
        raise AssertionError(f"a frame where a close was due: {frame}")

    async def rest(self) -> tuple[list[Json], Close]:
        """All frames up to the close, and the close."""
        start = len(self.frames)
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            end = Close(closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else Close(1006, "")
            return self.frames[start:], end

    async def is_quiet(self, patience_s: float = 0.15) -> bool:
        """Whether nothing comes. The only wait for time: an absence has no event."""
        try:
            async with asyncio.timeout(patience_s):
                await self.next()
        except TimeoutError:
            return True
        return False

    # --- saying

    async def say(self, message: str | bytes) -> None:
        await self.socket.send(message)

    async def ping(self) -> None:
        """An application ping and its pong; a barrier: what was sent before has arrived."""
        await self.say('{"type":"ping"}')
        await self.until(type="pong")

    def vanish(self) -> None:
        """As a browser that crashed: no close frame."""
        self.socket.transport.abort()
