"""A user who reads as much as one may: long histories on all sockets, or page after page.

What is read is dropped at once, so that the replica and Redis are what sets the pace. One that has
everything begins again. Part of `bench.one_user`, which runs it in a process of its own.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Final

from bench.crowd import upgrade_request

#: What is read.
LONG: Final = "long"
READ_BYTES: Final = 1 << 18
PAUSE_S: Final = 0.05
#: Nothing for this long: it has everything.
QUIET_S: Final = 1.0


async def history(port: int, headers: Mapping[str, str], done: Counter[str], *, query: str) -> None:
    """A socket that asks for all there is, again and again."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
            try:
                path = f"/ws/operations/{LONG}?{query}"
                writer.write(upgrade_request(("127.0.0.1", port), path, headers))
                while True:
                    async with asyncio.timeout(QUIET_S):
                        data = await reader.read(READ_BYTES)
                    if not data:
                        break
                    done["bytes"] += len(data)
            finally:
                writer.transport.abort()
        except TimeoutError:
            done["had all"] += 1
        except OSError:
            done["cut"] += 1
        await asyncio.sleep(PAUSE_S)


async def pages(port: int, headers: Mapping[str, str], done: Counter[str]) -> None:
    """A connection that reads page after page, each as large as may be."""
    after = ""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
            try:
                while True:
                    path = f"/operations/{LONG}/events?limit=500&after={after}"
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode())
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    size = head.partition("content-length: ")[2].partition("\r\n")[0]
                    body = await reader.readexactly(int(size or 0))
                    done["bytes"] += len(body)
                    if not head.startswith("http/1.1 200"):
                        done[head[9:12]] += 1
                        after = ""
                        break
                    done["pages"] += 1
                    # The end of the body has no events in it.
                    rest = json.loads(b"{" + body[body.rindex(b'],"cursor"') + 2 :])
                    after = rest["cursor"] if rest["more"] else ""
            finally:
                writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            done["cut"] += 1
        await asyncio.sleep(PAUSE_S)
