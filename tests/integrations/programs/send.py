"""`python -m ...send MODULE`: enqueues what each line of stdin says, a JSON list of pairs of a task
and an operation, and answers each with a line.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import TextIO


async def main(module: str, answers: TextIO) -> None:
    tasks = importlib.import_module(f"{__package__}.{module}")
    while line := await asyncio.to_thread(sys.stdin.readline):
        await tasks.send_all(json.loads(line))
        answers.write("sent\n")
        answers.flush()


if __name__ == "__main__":
    stdout = sys.stdout
    sys.stdout = sys.stderr  # whatever a library says is no answer
    asyncio.run(main(sys.argv[1], stdout))
