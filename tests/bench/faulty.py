"""The naive server with one fault: it drops, repeats or swaps every tenth frame it sends.

    python -m tests.bench.faulty drop --port 8080 --redis redis://127.0.0.1:6379

Proves that the bench notices. The first frame of a connection is left alone.
"""

import sys
from typing import Any

from fastapi import WebSocket

from bench import naive

EVERY = 10


def break_sending(fault: str) -> None:
    """Make `WebSocket.send_text` commit `fault` on every tenth frame."""
    send = WebSocket.send_text
    count = 0
    held: dict[WebSocket, str] = {}

    async def send_text(self: WebSocket, data: str) -> None:
        nonlocal count
        count += 1
        due = count % EVERY == 0 and "~T" in data
        if due and fault == "drop":
            return
        if due and fault == "swap":
            held[self] = data
            return
        await send(self, data)
        if due and fault == "repeat":
            await send(self, data)
        if self in held:
            await send(self, held.pop(self))

    replacement: Any = send_text
    WebSocket.send_text = replacement  # type: ignore[method-assign]


if __name__ == "__main__":
    break_sending(sys.argv.pop(1))
    naive.main()
