"""Bodies that nobody reads are bounded in time and size, on every path and with every method."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tidegate.web.server.unread_body import UNREAD_MAX_BYTES

SERVICE = "s" * 32
#: Longer than a busy machine takes for an answer that should come before it.
BOUND_S = 3.0
#: What a test waits for an end that should come after `BOUND_S`.
PATIENCE_S = 20.0
EVENT = b'{"type":"log","data":{}}'
#: Method and path; the answer that may come before the body has.
UNREAD = {
    ("GET", "/operations/42"): b"200",
    ("GET", "/operations/42/events"): b"200",
    ("GET", "/operations/44/events?wait=30"): b"",
    ("GET", "/sse/operations/42"): b"200",
    ("POST", "/sse/operations/42"): b"405",
    ("POST", "/operations/42"): b"405",
    ("POST", "/nothing/here"): b"404",
    ("POST", "/operations/42/events?fallback=wrong"): b"400",
    ("DELETE", "/operations/43"): b"401",
    ("OPTIONS", "/operations/42"): b"405",
}
LENGTH = b"Content-Length: 1000000000"
CHUNKED = b"Transfer-Encoding: chunked"


def bounded(server: Server, bound_s: float) -> Replica:
    publish = {"token": SERVICE, "body_timeout_s": 60}
    return Replica(server.url, publish=publish, replica={"header_timeout_s": bound_s})


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with bounded(redis_server, BOUND_S) as replica:
        yield replica


class Raw:
    """A client that sends its body as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent = 0

    async def send_until_cut(self, piece: bytes, pause_s: float) -> None:
        """Pieces of a body, until the other side has closed."""
        with contextlib.suppress(ConnectionError):
            while not self.writer.is_closing() and not self.reader.at_eof():
                self.writer.write(piece)
                await self.writer.drain()
                self.sent += len(piece)
                await asyncio.sleep(pause_s)

    async def everything(self) -> bytes:
        """All that is said until the end."""
        found = b""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                found += data
        return found


@contextlib.asynccontextmanager
async def connection(replica: Replica) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.settings.server.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


def head(method: str, path: str, *lines: bytes) -> bytes:
    first = f"{method} {path} HTTP/1.1\r\nHost: localhost".encode()
    return b"\r\n".join([first, *lines, b"", b""])


async def ends(
    replica: Replica, request: bytes, piece: bytes, pause_s: float
) -> tuple[bytes, float, int]:
    """What is answered, after how long it is over, and how much could be sent."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with connection(replica) as raw:
        raw.writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            sending = asyncio.create_task(raw.send_until_cut(piece, pause_s))
            answer = await raw.everything()
            sending.cancel()
            await asyncio.wait([sending])
        return answer, loop.time() - started, raw.sent


async def test_a_body_that_does_not_end_is_not_waited_for(
    replica: Replica, backend: Backend
) -> None:
    """All of them at once, because each takes its time."""
    await backend.publish("42")
    cases = [(*case, framing) for case in UNREAD.items() for framing in (LENGTH, CHUNKED)]
    found = await asyncio.gather(
        *(
            ends(
                replica,
                head(*request, framing),
                b"x" if framing == LENGTH else b"1\r\nx\r\n",
                0.05,
            )
            for request, _, framing in cases
        )
    )
    for (request, status, framing), (answer, seconds, _) in zip(cases, found, strict=True):
        said = (request, framing, answer[:200])
        assert answer.startswith(b"HTTP/1.1 " + (status or b"408")), said
        assert BOUND_S * 0.9 < seconds < PATIENCE_S, said
    assert replica.runtime._limiter.refusals["body_time"] == len(cases)


async def test_a_body_without_end_is_not_taken(replica: Replica, backend: Backend) -> None:
    await backend.publish("42")
    piece = b"x" * 65536
    refusals = replica.runtime._limiter.refusals
    for number, request in enumerate(UNREAD, 1):
        answer, _, sent = await ends(replica, head(*request, LENGTH), piece, 0.0)
        said = (request, answer[:200])
        assert answer[:9] in (b"HTTP/1.1 ", b""), "it may be lost when the rest is not read"
        assert refusals["body_time"] + refusals["body_size"] == number, said
        assert sent < UNREAD_MAX_BYTES + 16 * 2**20, said  # the rest lies in the kernel's buffers


async def test_who_reads_a_body_has_bounds_of_its_own(replica: Replica) -> None:
    """`publish.body_timeout_s`, which may be longer."""
    async with connection(replica) as raw:
        raw.writer.write(
            head(
                *("POST", "/operations/42/events"),
                f"Authorization: Bearer {SERVICE}".encode(),
                b"Content-Length: %d" % len(EVENT),
            )
        )
        for byte in EVENT:
            raw.writer.write(bytes([byte]))
            await asyncio.sleep(1.2 * BOUND_S / len(EVENT))
        async with asyncio.timeout(PATIENCE_S):
            assert (await raw.reader.readline()).startswith(b"HTTP/1.1 201")
    assert replica.runtime._limiter.refusals["body_time"] == 0


async def test_a_read_body_says_nothing_of_the_one_behind_it(replica: Replica) -> None:
    first = head(
        *("POST", "/operations/42/events"),
        f"Authorization: Bearer {SERVICE}".encode(),
        b"Content-Length: %d" % len(EVENT),
    )
    second = head("GET", "/operations/42", LENGTH)
    answer, seconds, _ = await ends(replica, first + EVENT + second, b"x", 0.05)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert seconds < PATIENCE_S
    assert replica.runtime._limiter.refusals["body_time"] == 1


async def test_small_bodies_where_none_is_read_are_let_pass(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    bound_s = 1.0
    async with bounded(redis_server, bound_s) as replica, connection(replica) as raw:
        for _ in range(3):  # one connection, kept
            raw.writer.write(head("GET", "/operations/42", b"Content-Length: 3") + b"abc")
            async with asyncio.timeout(PATIENCE_S):
                text = await raw.reader.readuntil(b"\r\n\r\n")
                length = int(_header(text, "content-length"))
                assert len(await raw.reader.readexactly(length)) == length
            assert text.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(1.2 * bound_s)  # a clock that was left running would cut it now
        raw.writer.write(head("GET", "/operations/42"))
        async with asyncio.timeout(PATIENCE_S):
            assert (await raw.reader.readline()).startswith(b"HTTP/1.1 200")


def _header(text: bytes, name: str) -> str:
    for line in text.decode().splitlines():
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    raise AssertionError(f"no {name}")
