"""A viewer by `EventSource` instead of a WebSocket: it comes back with the last id that it has.

It notes what the other one notes, so the same judge has the verdict. `end` is the close with 1000;
every other end of a response is a loss. What a proxy holds back arrives late, or never.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import orjson

from tests.cluster.crowd import TimedViewer
from tests.faults.judge import Closed, Opened

#: Two heartbeats without a byte.
SILENCE_S = 30.0
FINISHED = 1000
LOST = 1006


class Message(NamedTuple):
    """One event; an `event:` other than the default only at the end."""

    name: str
    data: bytes


class TimedEventStream(TimedViewer):
    """`crowd.watching(..., kinds=(TimedViewer, TimedEventStream))`."""

    async def _connect(self) -> tuple[int | None, int]:
        address = self._addresses[self._at]
        prefix, tls = address.prefix, address.tls
        scheme = "http" if tls is None else "https"
        url = f"{scheme}://{address.authority}{prefix}/sse/operations/{self.operation}"
        query = {} if self._history is None else {"history": self._history}
        headers = {} if self._position is None else {"Last-Event-ID": str(self._position)}
        before = len(self.record)
        code = LOST
        timeout = httpx.Timeout(3.0, read=SILENCE_S)
        try:
            async with (
                httpx.AsyncClient(timeout=timeout, trust_env=False, verify=tls or False) as client,
                client.stream("GET", url, params=query, headers=headers) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    self.said[f"status {answer.status_code}"] += 1
                    return None, 0
                self._note(Opened(self._at, self._position))
                self.replica = self._at
                try:
                    async for message in _messages(answer):
                        if message.name == "end":
                            code = int(orjson.loads(message.data)["data"]["code"])
                            break
                        self._take(message.data)
                finally:
                    self.replica = None
        except httpx.HTTPError:
            if self.replica is None and len(self.record) == before:
                return None, 0  # it was never open
        self.closed = code
        self._note(Closed(code))
        return code, len(self.record) - before - 2


async def _messages(answer: httpx.Response) -> AsyncIterator[Message]:
    """Each is whole at its empty line; comments are heartbeats."""
    name, data = "message", b""
    rest = b""
    async for part in answer.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            field, _, value = line.partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                data += value
            elif not line and data:
                yield Message(name, data)
                name, data = "message", b""
