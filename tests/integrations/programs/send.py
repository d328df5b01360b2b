"""`python -m ...send MODULE`: enqueues what stdin says, a task and an operation for each line."""

from __future__ import annotations

import asyncio
import importlib
import sys

if __name__ == "__main__":
    module = importlib.import_module(f"{__package__}.{sys.argv[1]}")
    asyncio.run(module.send_all([line.split() for line in sys.stdin]))
