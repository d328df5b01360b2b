"""How a process of a run is asked: one command a line on standard input, in JSON, and one answer.

    {"do": "open", "port": 8080}  ->  {"open": 200}

`child.Child.ask` is the other end.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

#: A command's arguments are the keywords of its function; what it returns is the answer.
Verbs = Mapping[str, Callable[..., Awaitable[dict[str, Any]]]]


async def answer_commands(verbs: Verbs) -> None:
    """One after the other, until standard input ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        answer = await verbs[command.pop("do")](**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
