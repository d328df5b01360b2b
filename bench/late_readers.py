"""The process of viewers that come late to one long text, and stay until each has all of it.

So many at a time shake hands and read; each counts the tokens and the frames in what it reads. A
token begins with a character that is nowhere else in a frame. The first viewer keeps its frames, so
that the text can be compared with what was written.

Commands are JSON lines on standard input, answers JSON lines on standard output:

    read   open so many viewers -> how many had everything, after how long, and what it took
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import orjson
import uvloop

from bench.commands import answer_commands
from bench.crowd import upgrade_request
from bench.mark import TOKEN_START
from bench.stats import percentile

READ_BYTES: Final = 1 << 18
FRAME: Final = b'"type":"append"'
REST_BYTES: Final = 64
#: How a frame of a token ends, and a joined one.
WHOLE: Final = re.compile(rb'(?:"\}|"joined":[0-9]+)\}\Z')


class Tally:
    """What viewers have had together."""

    def __init__(self) -> None:
        self.frames = 0
        self.size_bytes = 0
        self.took_ms: list[float] = []
        self.lost: Counter[str] = Counter()


async def read(
    *, port: int, operation: str, viewers: int, tokens: int, at_a_time: int, patience_s: float
) -> dict[str, Any]:
    """Each reads the whole history, of so many tokens. The text is that of the first viewer."""
    tally = Tally()
    free = asyncio.Semaphore(at_a_time)
    text: list[str] = []

    async def one(number: int) -> None:
        kept: list[bytes] | None = [] if number == 0 else None
        async with free:
            how = await _read(port, operation, tokens, patience_s, tally, kept)
        if how is None:
            text.extend(_texts(b"".join(kept or ())))
        else:
            tally.lost[how] += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(viewers):
            tasks.create_task(one(number))
    took = sorted(tally.took_ms) or [0.0]
    return {
        "expected": viewers,
        "complete": len(tally.took_ms),
        "frames": tally.frames,
        "bytes": tally.size_bytes,
        "p50_ms": percentile(took, 50),
        "p99_ms": percentile(took, 99),
        "text": "".join(text),
        "lost": tally.lost,
    }


async def _read(
    port: int,
    operation: str,
    tokens: int,
    patience_s: float,
    tally: Tally,
    kept: list[bytes] | None,
) -> str | None:
    """None when it had all; in words what kept it from that."""
    began = time.monotonic()
    writer = None
    seen = 0
    rest = b""
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
            path = f"/ws/operations/{operation}?history=all"
            writer.write(upgrade_request(("127.0.0.1", port), path))
            await reader.readuntil(b"\r\n\r\n")
            while seen < tokens or not WHOLE.search(rest):
                data = await reader.read(READ_BYTES)
                if not data:
                    return "cut"
                seen += data.count(TOKEN_START)
                tally.size_bytes += len(data)
                # So much of what came before that no frame is counted twice.
                tally.frames += (rest[1 - len(FRAME) :] + data).count(FRAME)
                rest = (rest + data)[-REST_BYTES:]
                if kept is not None:
                    kept.append(data)
        tally.took_ms.append((time.monotonic() - began) * 1000)
        return None
    except TimeoutError:
        return f"too slow: {'some' if seen else 'no'} tokens in {patience_s:g} s"
    except (OSError, asyncio.IncompleteReadError) as error:
        return type(error).__name__
    finally:
        if writer is not None:
            writer.transport.abort()


def _texts(data: bytes) -> Iterator[str]:
    """Of unmasked text frames in a row."""
    at = 0
    while at < len(data):
        size, start = data[at + 1], at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            start += width
            size = int.from_bytes(data[at + 2 : start])
        is_text = data[at] & 15 == 1  # and no ping
        at = start + size
        if not is_text:
            continue
        frame = orjson.loads(data[start:at])
        if frame["type"] == "append":
            yield frame["data"]["text"]


async def serve() -> None:
    """Answer commands until standard input ends."""
    await answer_commands({"read": read})


if __name__ == "__main__":
    uvloop.run(serve())
