"""Programs that a test waits for: what they say is kept, also of one that does not end in time.

`communicate` loses all of that when it is cancelled, and leaves pipes open: whoever the program has
started may hold their other end, so that killing the program does not close them. An open pipe
breaks whichever test is running when it is collected, by its ResourceWarning.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio import StreamReader
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 65_536
#: Of a program that did not end in time.
SHOWN_CHARS = 8_000


class Done(NamedTuple):
    """How a program ended and what it said."""

    code: int
    out: str
    err: str


async def ended(process: Process, timeout_s: float | None = None, stdin: bytes = b"") -> Done:
    """How it ended. However this returns, the program, its group and its pipes are gone.

    Without `timeout_s` the limit is that of the test (tests/deadlines.py), which cancels this.

    Raises:
        AssertionError: it has not ended in time; the text has what it said until then.
    """
    out, err = bytearray(), bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(
                _feed(process, stdin), _hear(process.stdout, out), _hear(process.stderr, err)
            )
            code = await process.wait()
    except TimeoutError:
        text = f"pid {process.pid} has not ended within {timeout_s} s; it said:\n{_end(out, err)}"
        raise AssertionError(text) from None
    except asyncio.CancelledError:
        sys.stderr.write(f"pid {process.pid} is killed; it said:\n{_end(out, err)}\n")
        raise
    finally:
        await end(process)
    return Done(code, out.decode(errors="replace"), err.decode(errors="replace"))


async def run(
    *command: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> Done:
    """Start it with nothing to read, and both of its outputs in one; how it ended, as `ended`.
    `env`: variables beside those of this process.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=os.environ | dict(env or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    return await ended(process, timeout_s)


async def end(process: Process) -> None:
    """Kill it, and its group if it leads one, and close its pipes. Harmless for one that ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it leads no group
        # Not after the other: `Popen.send_signal` would reap one that is dying, and asyncio, which
        # waits for it in a thread (Python 3.11), would report 255.
        if process.returncode is None:
            process.kill()
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]
    for number in (0, 1, 2):
        if (pipe := transport.get_pipe_transport(number)) is not None:
            pipe.close()
    await process.wait()


async def _feed(process: Process, text: bytes) -> None:
    if process.stdin is None:
        return
    try:
        process.stdin.write(text)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):  # it reads no more
        pass
    process.stdin.close()


async def _hear(stream: StreamReader | None, into: bytearray) -> None:
    while stream is not None and (chunk := await stream.read(CHUNK_BYTES)):
        into += chunk


def _end(*said: bytearray) -> str:
    return "\n".join(one.decode(errors="replace")[-SHOWN_CHARS:] for one in said if one)
