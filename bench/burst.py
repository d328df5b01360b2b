"""The process of viewers that all come at once, each to an operation with a large history.

A rolling restart looks like this to the replica that is left. Each viewer shakes hands, reads until
it has as many marked entries as it was told, and leaves; one that is refused or cut does not try
again. They are to be slow enough for nobody and fast enough to be no bottleneck: a viewer counts
marks in what it reads and does nothing else.

Commands are JSON lines on standard input, answers JSON lines on standard output:

    arrive   open so many viewers at once -> how many had everything, and after how long
"""

import asyncio
import time
from collections import Counter
from typing import Any, Final

import uvloop

from bench.commands import answer_commands
from bench.crowd import upgrade_request
from bench.mark import START, operation_name

READ_BYTES: Final = 1 << 18
ERROR: Final = b'"type":"error"'


async def arrive(
    *, port: int, first: int, viewers: int, entries_each: int, patience_s: float
) -> dict[str, Any]:
    """All of them at once. `first` is the number of the first one's operation."""
    started = time.monotonic()
    names = [operation_name(first + index) for index in range(viewers)]
    ended = await asyncio.gather(*(_one(port, name, entries_each, patience_s) for name in names))
    took = sorted(how for how in ended if isinstance(how, float))
    return {
        "expected": viewers,
        "arrived": len(took),
        "slowest_s": took[-1] - started if took else None,
        "lost": Counter(how for how in ended if isinstance(how, str)),
    }


async def _one(port: int, operation: str, entries: int, patience_s: float) -> float | str:
    """When it had all; in words what kept it from that."""
    writer = None
    seen = 0
    rest = b""
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
            path = f"/ws/operations/{operation}"
            writer.write(upgrade_request(("127.0.0.1", port), path))
            while seen < entries:
                data = rest + await reader.read(READ_BYTES)
                if len(data) == len(rest):
                    return "cut"
                if not seen and ERROR in data:
                    return "refused"
                seen += data.count(START)
                rest = data[-1:] if data[-1:] == START[:1] else b""
        return time.monotonic()
    except TimeoutError:
        return f"too slow: {'some' if seen else 'no'} entries in {patience_s:g} s"
    except OSError as error:
        return type(error).__name__
    finally:
        if writer is not None:
            writer.transport.abort()


async def serve() -> None:
    """Answer commands until standard input ends."""
    await answer_commands({"arrive": arrive})


if __name__ == "__main__":
    uvloop.run(serve())
