"""A viewer as a good client is: it resumes on the next replica with the last id it has.

It notes every frame for the judge and when it arrived, and decides nothing about right or wrong.
It comes back after every loss and every close that asks for it, with a short back-off, until close
1000 or a refusal. `lags` makes it stop reading for a while, with socket buffers so small that the
replica notices.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.faults.judge import Closed, Event, Gap, Got, Opened, Rules, Skipped, State
from tidegate.model.close_codes import ComeBack, come_back
from tidegate.model.ids import StreamId, parse_stream_id

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.02, 0.3
SMALL_BUFFER_BYTES = 4096


class Address(NamedTuple):
    """Where viewers reach one replica: through a proxy or directly.

    With a `tls` it is `wss`; `prefix` is the path of the gateway behind a proxy.
    """

    host: str
    port: int
    prefix: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """As in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Lag(NamedTuple):
    """After so many entries stop reading for so long."""

    after_entries: int
    seconds: float


class Arrival(NamedTuple):
    """When an entry came, and the time in its id: both seconds since the epoch."""

    at: float
    written: float


class Viewer:
    """One viewer of one operation; `run` until its end."""

    def __init__(
        self,
        name: str,
        operation: str,
        addresses: Sequence[Address],
        *,
        rng: random.Random,
        history: str | None = "all",
        lags: Sequence[Lag] = (),
        first: int | None = None,
    ) -> None:
        """`first`: the address to begin with; None lets `rng` choose."""
        self.name = name
        self.operation = operation
        self.rules = Rules(from_start=history == "all")
        self.record: list[Event] = []
        self.arrivals: list[Arrival] = []
        #: Error frames, as `code: message`, and whatever else was said besides entries.
        self.said: Counter[str] = Counter()
        #: The replica it is connected to now.
        self.replica: int | None = None
        self.ended = asyncio.Event()
        #: The last close code.
        self.closed: int | None = None
        self._addresses = addresses
        self._rng = rng
        self._history = history
        self._lags = list(lags)
        self._at = rng.randrange(len(addresses)) if first is None else first
        self._position: StreamId | None = None
        self._numbers: set[int] = set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Watch until close 1000 or a refusal that says not to come back."""
        delay_s = BACKOFF_MIN_S
        while True:
            code, frames = await self._connect()
            if code is not None and come_back(code) is ComeBack.NO:
                self.ended.set()
                return
            delay_s = BACKOFF_MIN_S if frames else min(2 * delay_s, BACKOFF_MAX_S)
            self._at = (self._at + 1) % len(self._addresses)
            await asyncio.sleep(delay_s * self._rng.uniform(0.5, 1.5))

    async def entry(self, number: int, within_s: float) -> None:
        """Wait until this entry has arrived. Raises TimeoutError with what it has instead."""
        try:
            async with asyncio.timeout(within_s):
                while number not in self._numbers:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            said = f"{self.record[-3:]}, {dict(self.said)}"
            raise TimeoutError(f"{self.name}: no entry {number} in {within_s} s: {said}") from None

    async def events(self, count: int) -> None:
        """Wait until so many events are noted."""
        while len(self.record) < count:
            self._changed.clear()
            await self._changed.wait()

    def gaps(self) -> list[Gap]:
        """The gaps it was told of."""
        return [event for event in self.record if isinstance(event, Gap)]

    # --- one connection

    async def _connect(self) -> tuple[int | None, int]:
        """Close code (None when it was never open), and frames received."""
        address = self._addresses[self._at]
        host, port, prefix, tls = address
        query = [] if self._history is None else [f"history={self._history}"]
        if self._position is not None:
            query.append(f"last_event_id={self._position}")
        path = f"{prefix}/ws/operations/{self.operation}?{'&'.join(query)}"
        scheme = "ws" if tls is None else "wss"
        before = len(self.record)
        try:
            sock = await self._small_socket(host, port) if self._lags else None
            # A viewer that does not read would not see the answers to its own pings.
            patience = None if self._lags else 1.5
            async with connect(
                f"{scheme}://{address.authority}{path}",
                sock=sock,
                ssl=tls,
                proxy=None,
                compression=None,
                open_timeout=3,
                ping_interval=patience,
                # Longer than any pause: what does not come back is cut (`Harm`).
                ping_timeout=15,
                close_timeout=0.5,
                max_queue=4 if self._lags else 256,
            ) as ws:
                self._note(Opened(self._at, self._position))
                self.replica = self._at
                try:
                    await self._read(ws)
                finally:
                    self.replica = None
            code = ws.close_code or 1006
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage):
            return None, 0
        self.closed = code
        self._note(Closed(code))
        return code, len(self.record) - before - 2

    async def _read(self, ws: ClientConnection) -> None:
        try:
            while True:
                self._take(await ws.recv())
                if self._lags and len(self._numbers) >= self._lags[0].after_entries:
                    await asyncio.sleep(self._lags.pop(0).seconds)
        except ConnectionClosed:
            pass

    async def _small_socket(self, host: str, port: int) -> socket.socket:
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            sock.settimeout(0)
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _take(self, text: str | bytes) -> None:
        frame = orjson.loads(text)
        if "id" in frame:
            entry_id = parse_stream_id(frame["id"])
            self._position = entry_id
            self._numbers.add(frame["data"]["n"])
            self.arrivals.append(Arrival(time.time(), entry_id.ms / 1000))
            self._note(Got(entry_id, frame["data"]["n"], frame["type"]))
            return
        data = frame.get("data", {})
        match frame["type"]:
            case "current_state":
                cursor = parse_stream_id(frame["cursor"])
                if self._position is None:
                    self._position = cursor
                self._note(State(cursor))
            case "gap":
                before = data.get("before")
                self._note(
                    Gap(
                        parse_stream_id(data["after"]),
                        None if before is None else parse_stream_id(before),
                        data["reason"],
                    )
                )
            case "skipped":
                self._note(Skipped(data["count"]))
            case "error":
                self.said[f"{data['code']}: {data['message']}"] += 1
            case other:
                self.said[other] += 1

    def _note(self, event: Event) -> None:
        self.record.append(event)
        self._changed.set()
