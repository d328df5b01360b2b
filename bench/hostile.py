"""Viewers that mean harm, one function per kind, and a process that runs a gang of them.

Each does its harm on one connection until the replica ends it or its patience is over, and says how
it ended; the tests hold each to the table of close codes, the bench looks at what the others had to
suffer meanwhile. Nothing here is a good client: no answers to pings, no closing handshake.

As a process: `python -m bench.hostile` reads JSON lines; `start` sets the gang to work, each kind
over and over with a pause, `stop` tells how their connections ended.
"""

import asyncio
import socket
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import uvloop

from bench.commands import answer_commands
from bench.crowd import upgrade_request

READ_BYTES: Final = 65_536
CONNECT_S: Final = 10.0
SMALL_BUFFER_BYTES: Final = 4096
#: A member waits so long before it comes again, as someone with few addresses has to.
PAUSE_S: Final = 0.5
SLOWLY_S: Final = 0.05
#: Of requests sent ahead, as much as a loop reads at once.
AHEAD_BYTES: Final = 256 * 1024
#: Header lines of 1 KB: megabytes, for whoever keeps them.
MANY: Final = 20_000
LOOK_S: Final = 0.05
PAGES: Final = 8

TEXT: Final = 1
CONTINUATION: Final = 0
PING: Final = 9
MASK: Final = b"\x5a\xa5\x0f\xf0"


class Ended(NamedTuple):
    """How a connection ended.

    `how` is `close` (with the close code), `http` (with the status), `cut` (without a word) or
    `patience` (it was still open). `head` is the answer to the handshake, if there was one.
    """

    how: str
    code: int = 0
    head: bytes = b""

    def __str__(self) -> str:
        return f"{self.how} {self.code}" if self.code else self.how


class Wire:
    """One connection of bytes."""

    def __init__(self, sock: socket.socket, address: tuple[str, int], patience_s: float) -> None:
        self.head = b""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._until = self._loop.time() + patience_s
        self._data = b""

    async def send(self, data: bytes) -> bool:
        """Whether the other side still takes it; False too when patience is over."""
        if self._loop.time() >= self._until:
            return False  # a send that need not wait would not notice
        try:
            async with asyncio.timeout_at(self._until):
                await self._loop.sock_sendall(self._sock, data)
        except (OSError, TimeoutError):
            return False
        return True

    async def shake(self, path: str, more: Mapping[str, str] | None = None) -> Ended | None:
        """The handshake; what it ended with when it was refused."""
        if not await self.send(upgrade_request(self._address, path, more)):
            return Ended("cut")
        while b"\r\n\r\n" not in self._data:
            if not await self._read():
                return self.over()
        self.head, _, self._data = self._data.partition(b"\r\n\r\n")
        if self.head.startswith(b"HTTP/1.1 101"):
            return None
        return Ended("http", int(self.head[9:12]), self.head)

    async def answered(self) -> None:
        """Until the head of an answer is here, if it comes; nothing of it is taken."""
        while b"\r\n\r\n" not in self._data and await self._read():
            pass

    async def until_end(self) -> Ended:
        """Read and answer nothing until the other side ends it, or patience is over."""
        while (code := self._closed()) is None:
            if not await self._read():
                return self.over()
        return Ended("close", code, self.head)

    async def hold(self) -> Ended:
        """Read nothing at all. Only a reset can be noticed, by looking at the socket's state."""
        while self._loop.time() < self._until:
            if self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x01":
                return Ended("cut", 0, self.head)
            await asyncio.sleep(LOOK_S)
        return Ended("patience", 0, self.head)

    async def _read(self) -> bool:
        try:
            async with asyncio.timeout_at(self._until):
                data = await self._loop.sock_recv(self._sock, READ_BYTES)
        except (OSError, TimeoutError):
            return False
        self._data += data
        return bool(data)

    def over(self) -> Ended:
        """How it ended, now that nothing more can be sent or read."""
        if self._loop.time() >= self._until:
            return Ended("patience", 0, self.head)
        if self._data.startswith(b"HTTP/1.1 "):
            return Ended("http", int(self._data[9:12]), self._data)
        return Ended("cut", 0, self.head)

    def _closed(self) -> int | None:
        """Step over whole frames; the code of a close frame, if there is one."""
        data, at = self._data, 0
        code = None
        if not self.head:
            return None
        while code is None and len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size > 125:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : start])
            if len(data) < start + size:
                break
            if data[at] & 15 == 8:
                code = int.from_bytes(data[start : start + 2]) if size >= 2 else 1005
            at = start + size
        self._data = data[at:]
        return code


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv1: bool = False
) -> bytes:
    """A frame, also one that the protocol does not allow."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65_536:
        head = bytes((first, bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8)
    if not masked:
        return head + payload
    whole = (MASK * (size // 4 + 1))[:size]
    mixed = (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(size)
    return head + MASK + mixed


# --- before the handshake -----------------------------------------------------------------------


async def slow_headers(wire: Wire, path: str) -> Ended:
    """A byte now and then, so that no read time-out ever strikes."""
    for byte in upgrade_request(("127.0.0.1", 80), path)[:-2]:
        if not await wire.send(bytes((byte,))):
            break
        await asyncio.sleep(SLOWLY_S)
    return await wire.until_end()


async def slow_second_request(wire: Wire, path: str) -> Ended:
    """A good request first, and then slow headers on the same connection."""
    del path
    await wire.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n")
    while await wire.send(b"x: y\r\n"):  # noqa: ASYNC110 - no event: the slowness is the point
        await asyncio.sleep(SLOWLY_S)
    return wire.over()


async def endless_headers(wire: Wire, path: str) -> Ended:
    """Headers without an end."""
    await wire.send(upgrade_request(("127.0.0.1", 80), path)[:-2])
    line = b"x-more: " + b"x" * 1000 + b"\r\n"
    for _ in range(MANY):
        if not await wire.send(line):
            break
    return await wire.until_end()


async def endless_trailers(wire: Wire, path: str) -> Ended:
    """A good request, answered, whose body then ends in headers without an end."""
    del path
    await wire.send(
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    )
    await wire.answered()
    line = b"x-more: " + b"x" * 1000 + b"\r\n"
    for _ in range(MANY):
        if not await wire.send(line):
            break
    return await wire.until_end()


async def requests_ahead(wire: Wire, path: str) -> Ended:
    """The shortest requests there are, by the thousand, and no answer read."""
    del path
    one = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    await wire.send(one * (AHEAD_BYTES // len(one)))
    return await wire.hold()


async def unread_pages(wire: Wire, path: str) -> Ended:
    """The largest page, over and over, and not a byte of it read."""
    page = f"/operations/{path.rpartition('/')[2]}/events?limit=500"
    request = f"GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    await wire.send(request * PAGES)
    return await wire.hold()


# --- after it -----------------------------------------------------------------------------------


async def silence(wire: Wire, path: str) -> Ended:
    """A handshake, and never a word again: not even a pong."""
    return await wire.shake(path) or await wire.until_end()


async def never_reading(wire: Wire, path: str) -> Ended:
    """All the history there is, and not a byte of it read."""
    return await wire.shake(f"{path}?history=all") or await wire.hold()


async def one_byte_texts(wire: Wire, path: str) -> Ended:
    """Messages of one byte, as fast as they go."""
    return await _flood(wire, path, frame(TEXT, b"{"))


async def pings(wire: Wire, path: str) -> Ended:
    """Pings by the thousand, each of which wants an answer."""
    return await _flood(wire, path, frame(PING, b"x" * 125))


async def one_byte_parts(wire: Wire, path: str) -> Ended:
    """One message in parts of one byte, never complete."""
    return await _flood(
        wire, path, frame(CONTINUATION, b"x", fin=False), first=frame(TEXT, b"x", fin=False)
    )


async def text_bomb(wire: Wire, path: str) -> Ended:
    """One message in large parts, never complete."""
    part = frame(CONTINUATION, b"x" * 8192, fin=False)
    return await _say(wire, path, frame(TEXT, b"x", fin=False) + part * 40)


async def deep_json(wire: Wire, path: str) -> Ended:
    """Texts that are costly to parse, over and over."""
    return await _flood(wire, path, frame(TEXT, b'{"type":' + b"[" * 20_000), count=200)


async def huge_length(wire: Wire, path: str) -> Ended:
    """The announcement of a frame that no memory could hold."""
    return await _say(wire, path, b"\x81\xff" + (1 << 62).to_bytes(8) + MASK + b"x" * 100)


async def compressed(wire: Wire, path: str) -> Ended:
    """Compression offered, and then used although it was not granted: 1 MB in 1 KB."""
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    bomb = zlib.compress(b'{"type":"ping"}' + b" " * 1_000_000, wbits=-15)
    return await wire.shake(path, offer) or await _after(wire, frame(TEXT, bomb, rsv1=True))


async def large_ping(wire: Wire, path: str) -> Ended:
    """A control frame over 125 bytes."""
    return await _say(wire, path, frame(PING, b"x" * 126))


async def parted_ping(wire: Wire, path: str) -> Ended:
    """A control frame in parts."""
    return await _say(wire, path, frame(PING, b"x", fin=False))


async def unmasked(wire: Wire, path: str) -> Ended:
    """A frame as only a server may send it."""
    return await _say(wire, path, frame(TEXT, b'{"type":"ping"}', masked=False))


async def wrong_utf8(wire: Wire, path: str) -> Ended:
    """A text that is none."""
    return await _say(wire, path, frame(TEXT, b'{"type":"\xff"}'))


async def _say(wire: Wire, path: str, data: bytes) -> Ended:
    return await wire.shake(path) or await _after(wire, data)


async def _after(wire: Wire, data: bytes) -> Ended:
    await wire.send(data)
    return await wire.until_end()


async def _flood(
    wire: Wire, path: str, one: bytes, *, first: bytes = b"", count: int = 5000
) -> Ended:
    return await _say(wire, path, first + one * count)


Kind = Callable[[Wire, str], Awaitable[Ended]]

KINDS: Final[Mapping[str, Kind]] = {
    kind.__name__: kind
    for kind in (
        slow_headers,
        slow_second_request,
        endless_headers,
        endless_trailers,
        requests_ahead,
        unread_pages,
        silence,
        never_reading,
        one_byte_texts,
        pings,
        one_byte_parts,
        text_bomb,
        deep_json,
        huge_length,
        compressed,
        large_ping,
        parted_ping,
        unmasked,
        wrong_utf8,
    )
}


NOT_READING: Final = frozenset(
    kind.__name__ for kind in (never_reading, requests_ahead, unread_pages)
)


async def harm(kind: str, address: tuple[str, int], path: str, *, patience_s: float) -> Ended:
    """One connection of this kind, to its end."""
    with socket.socket() as sock:
        sock.settimeout(0)
        if kind in NOT_READING:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except (OSError, TimeoutError):
            return Ended("refused")
        return await KINDS[kind](Wire(sock, address, patience_s), path)


# --- a gang -------------------------------------------------------------------------------------


class Gang:
    """So many members of each kind, until told to stop."""

    def __init__(self) -> None:
        self._members: set[asyncio.Task[None]] = set()
        self._ended: Counter[str] = Counter()
        self._started_s = time.monotonic()

    async def start(
        self, *, port: int, each: int, path: str, patience_s: float, kinds: Sequence[str] = ()
    ) -> dict[str, Any]:
        chosen = kinds or list(KINDS)
        for index in range(each * len(chosen)):
            kind = chosen[index % len(chosen)]
            work = self._again_and_again(kind, port, path, patience_s)
            self._members.add(asyncio.create_task(work, name=kind))
        return {"members": len(self._members)}

    async def stop(self) -> dict[str, Any]:
        for member in self._members:
            member.cancel()
        await asyncio.gather(*self._members, return_exceptions=True)
        self._members.clear()
        return {"ended": dict(self._ended), "seconds": time.monotonic() - self._started_s}

    async def _again_and_again(self, kind: str, port: int, path: str, patience_s: float) -> None:
        while True:
            ended = await harm(kind, ("127.0.0.1", port), path, patience_s=patience_s)
            self._ended[f"{kind}: {ended}"] += 1
            await asyncio.sleep(PAUSE_S)


async def serve() -> None:
    """Answer commands until standard input ends."""
    gang = Gang()
    await answer_commands({"start": gang.start, "stop": gang.stop})


if __name__ == "__main__":
    uvloop.run(serve())
